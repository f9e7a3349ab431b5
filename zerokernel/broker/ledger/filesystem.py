"""Which file systems belong to this host alone.

Locks, sockets and SQLite's write-ahead log do not work on one that several hosts share, and
where they seem to, they fail when it matters. The kernel names each by a number ("magic").
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from zerokernel.errors import LedgerUnavailable

SHARED = {
    0x00006969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x0000517B: "SMB",
    0x65735546: "FUSE",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x00C36400: "Ceph",
    0x19830326: "BeeGFS",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x01021997: "9p",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x20030528: "OrangeFS",
    0xAAD7AAEA: "PanFS",
    0x786F4256: "VirtualBox",
    0x0000564C: "NCP",
}
"""From linux/magic.h and, for those outside of the kernel, from their own sources."""

_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}
_LOCAL = {
    0x0000EF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0x794C7630: "overlay",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
}
_HOST_LOCAL_FUSE = {"fuseblk", "fuse.fuse-overlayfs"}
"""A disk of this host and the root of a rootless container: FUSE, and nobody shares them."""

_libc = ctypes.CDLL(None, use_errno=True)


def shared_kind(path: Path) -> str | None:
    """Gives the name of the file system at a path where other hosts may share it, else None.

    Args:
        path: Need not exist; its nearest parent that does counts.

    Raises:
        OSError: It cannot be asked.
    """
    there = nearest(path)
    kind = SHARED.get(magic(there))
    return None if kind == "FUSE" and _mounted_as(there) in _HOST_LOCAL_FUSE else kind


def kind(path: Path) -> str:
    """Gives a name for the file system at a path, the magic where it has none here."""
    number = magic(nearest(path))
    return (SHARED | _MEMORY | _LOCAL).get(number) or f"type {number:#x}"


def is_memory(path: Path) -> bool:
    """Whether what lies there is gone when the machine starts anew."""
    return magic(nearest(path)) in _MEMORY


def require_local(path: Path) -> None:
    """Raises LedgerUnavailable where the ledger must not lie."""
    try:
        shared = shared_kind(path)
    except OSError as error:
        raise LedgerUnavailable(f"The ledger's place {path} cannot be read: {error}") from error
    if shared is not None:
        raise LedgerUnavailable(
            f"The ledger {path} would lie on {shared}, which other hosts may share: its locks "
            "would not hold. Set ZEROKERNEL_LEDGER_PATH to a file on a disk of this machine."
        )


def nearest(path: Path) -> Path:
    """Gives the path, or its nearest parent that exists and can be asked.

    By `statfs`, which needs no right to look inside.

    Raises:
        OSError: It cannot be asked.
    """
    path = path.absolute()
    while True:
        try:
            magic(path)
            return path
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            if path == path.parent:
                raise
            path = path.parent


def magic(path: Path) -> int:
    """Gives the number of the file system's type.

    Raises:
        OSError: The path is not there or cannot be asked.
    """
    # struct statfs begins with the type, a long; all of it has less than 256 bytes.
    answer = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(path), ctypes.byref(answer)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return int(answer[0]) & 0xFFFFFFFF


def _mounted_as(path: Path) -> str:
    """Gives the type under which the path's file system is mounted: FUSE has one magic for all."""
    try:
        device = path.stat().st_dev
    except PermissionError:  # another user's
        return ""
    name = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == name:
            return after.split()[0]
    return ""
