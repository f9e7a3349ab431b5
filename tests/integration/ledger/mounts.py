"""File systems mounted for a test; it is skipped where this user may not mount."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def mounted_tmpfs(parent: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes."""
    place = parent / "disk"
    place.mkdir()
    _mount("tmpfs", place, f"size={size},mode=0700")
    try:
        yield place
    finally:
        _unmount(place)


@contextmanager
def mounted_unanswered_fuse(parent: Path) -> Iterator[Path]:
    """A FUSE mount of another user's: of its type the kernel tells without asking its server."""
    place = parent / "fuse"
    place.mkdir()
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    try:
        _mount("fuse", place, f"fd={server},rootmode=40000,user_id=54321,group_id=54321")
        try:
            yield place
        finally:
            _unmount(place)
    finally:
        os.close(server)


def _mount(kind: str, place: Path, options: str) -> None:
    words = [kind.encode(), os.fsencode(place), kind.encode(), 0, options.encode()]
    if _libc.mount(*words) != 0:
        pytest.skip(f"{kind} cannot be mounted here: {os.strerror(ctypes.get_errno())}")


def _unmount(place: Path) -> None:
    assert _libc.umount2(os.fsencode(place), 2) == 0, os.strerror(ctypes.get_errno())
