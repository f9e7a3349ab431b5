"""A broker that several people share: its configuration file, its serving, its end."""

from zerokernel.broker.service.configuration import Service, read_service

__all__ = ["Service", "read_service"]
