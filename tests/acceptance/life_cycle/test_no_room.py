"""Nothing is left to write to: cells go on or say what is wrong, and all is well afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.life_cycle.scene import Scene, opened
from zerokernel import errors

SIZE = 24 << 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    directory = Path(tempfile.mkdtemp(prefix="zk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        directory.rmdir()
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
        shutil.rmtree(directory)


def fill(file: Path) -> None:
    """Writes until there is no room for another byte."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    out.write(b"x" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _append(one: Scene, expected: list[int]) -> bool:
    """Runs a cell that changes a list; whether it ran, and if not, said why and changed nothing."""
    value = expected[-1] + 1
    run = one.kernel.run(f"%%gpu -d 20\nx.append({value})", timeout=30)
    if run.status == "ok":
        expected.append(value)
    else:
        kind = getattr(errors, run.error()["ename"], None)
        assert kind is not None, run.error()["evalue"]
        assert issubclass(kind, errors.ZeroKernelError)
    assert one.plain("print(x)") == str(expected)
    return run.status == "ok"


def test_a_full_disk_under_the_runtime_directory(small_disk):
    """Cells of a warm worker, and of one that is forked anew, end; with room again they run."""
    with opened(Scene(directory=small_disk)) as one:
        expected = [1]
        assert _append(one, expected)
        fill(small_disk / "ballast")
        _append(one, expected)
        one.run("%gpu restart")
        _append(one, expected)
        _append(one, expected)
        (small_disk / "ballast").unlink()
        assert _append(one, expected)


def test_a_broker_that_dies_while_the_disk_is_full(small_disk):
    """The next one cannot write its address: cells say so, and the first with room again runs."""
    with opened(Scene(directory=small_disk, settings={"broker_start_seconds": "5"})) as one:
        expected = [1]
        assert _append(one, expected)
        fill(small_disk / "ballast")
        one.look_who_is_there()
        one.broker.kill()
        _append(one, expected)
        (small_disk / "ballast").unlink()
        assert _append(one, expected)


FULL_SHARED_MEMORY = """\
import ctypes
_libc = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS, _PRIVATE = 0x20000, (1 << 14) | (1 << 18)  # CLONE_NEWNS, MS_REC | MS_PRIVATE
assert _libc.unshare(_NEW_MOUNTS) == 0
assert _libc.mount(None, b"/", None, _PRIVATE, None) == 0
assert _libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64k") == 0
with open("/dev/shm/ballast", "wb") as _file:
    _file.write(b"x" * (64 << 10))
try:
    with open("/dev/shm/more", "wb", buffering=0) as _file:
        _file.write(b"x")
except OSError as _error:
    print(_error.strerror)
"""
"""In a mount namespace of the kernel's own, which all that it starts shares."""


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a mount namespace in a kernel")
def test_a_full_dev_shm():
    """Objects of many megabytes cross both ways: none of them needs /dev/shm."""
    with opened(Scene(prelude=FULL_SHARED_MEMORY)) as one:
        assert "No space left" in one.plain(
            "try:\n  open('/dev/shm/still', 'wb', buffering=0).write(b'x')\n"
            "except OSError as error: print(error)"
        )
        one.plain("import numpy; a = numpy.ones((1 << 23,), numpy.uint8); alias = a")
        run = one.run("%%gpu\nb = a * 2\na[0] = 7\nc = bytes(9 << 20)")
        assert run.status == "ok", run.error()["evalue"]
        assert one.plain("print(a[0], alias is a, int(b.sum()) >> 20, len(c) >> 20)") == (
            "7 True 16 9"
        )
