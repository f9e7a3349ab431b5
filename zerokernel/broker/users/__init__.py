"""The users of a shared broker: a file of names and hashed tokens."""

from zerokernel.broker.users.changing import add, new_token, remove
from zerokernel.broker.users.file import UserFile
from zerokernel.broker.users.identity import FileIdentity
from zerokernel.broker.users.record import Record
from zerokernel.broker.users.tokens import digest, make_token

__all__ = [
    "FileIdentity",
    "Record",
    "UserFile",
    "add",
    "digest",
    "make_token",
    "new_token",
    "remove",
]
