"""The worker: what runs on a leased slice, and the supervisor that forks and ends it."""
