"""Tokens: made at random, kept as digests.

A slow hash is for passwords, which people choose and others can guess. 256 random bits cannot be
guessed, however fast the hash is that they are compared by, so SHA-256 does; and a broker that
is asked often need not be slow.
"""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "zk_"
"""Lets people and scanners for leaked secrets see what it is."""


def make_token() -> str:
    """Gives a new token: 256 random bits behind a prefix."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """Gives the SHA-256 of a token as hex digits. Never raises: a token may be any bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
