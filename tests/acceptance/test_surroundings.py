"""What prepares a worker, settings that fail, and packages installed while a session lives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.acceptance.cells import phases, plain, worker_pid
from tests.acceptance.conftest import Machine
from tests.kernels import Kernel, Run


def notes(run: Run) -> list[str]:
    assert run.status == "ok", run
    return next(list(p["notes"]) for p in phases(run) if "notes" in p)


def printed(kernel: Kernel, code: str) -> str:
    run = kernel.run(f"%%gpu\n{code}")
    assert run.status == "ok", run
    return run.text()


def test_on_worker_prepares_each_worker_once(kernel: Kernel) -> None:
    """Before the first cell of each worker, not of each cell; what it sets stays there."""
    plain(
        kernel,
        "import zerokernel, os, sys\nlevels = [7]\n@zerokernel.on_worker\n"
        "def prepare():\n    print('prepared')\n    sys.setrecursionlimit(4000 + levels[0])\n",
    )
    assert printed(kernel, "import sys; print(sys.getrecursionlimit())") == "prepared\n4007\n"
    assert printed(kernel, "print('next')") == "next\n"
    assert plain(kernel, "print(sys.getrecursionlimit() == 4007)") == "False"
    before = worker_pid(kernel)
    kernel.run("%gpu restart")
    assert printed(kernel, "print('other')") == "prepared\nother\n"
    assert worker_pid(kernel) != before


def test_on_worker_takes_the_latest_of_a_name(kernel: Kernel) -> None:
    """The cell that registers a function may run again; one that raises leaves a note."""
    register = "import zerokernel\n@zerokernel.on_worker\ndef prepare():\n    {}\n"
    plain(kernel, register.format("print('first')"))
    assert printed(kernel, "pass") == "first\n"
    plain(kernel, register.format("1 / 0"))
    run = kernel.run("%%gpu\nprint('runs')")
    assert run.text() == "runs\n"
    said = "`prepare`, which is to prepare each worker, raised ZeroDivisionError: division by zero"
    assert said in notes(run)
    assert printed(kernel, register.format("print('from a cell')")) == ""
    assert printed(kernel, "pass") == "from a cell\n"


def test_a_setting_that_fails_is_a_note(kernel: Kernel) -> None:
    """On the way out and on the way home the receipt names it, and the cell is not lost."""
    plain(
        kernel,
        "import zerokernel, threading, sys\n"
        "def get(): return getattr(sys, 'scratch_value', 'plain')\n"
        "def put(new):\n    raise RuntimeError(f'not {new}')\n"
        "zerokernel.register_setting('scratch.fails', get, put)\n"
        "def get_lock(): return getattr(sys, 'scratch_lock', 0)\n"
        "zerokernel.register_setting('scratch.lock', get_lock, print)\n",
    )
    assert notes(kernel.run("%%gpu\nsys.scratch_value = 'gpu'; done = 1")) == [
        "the setting scratch.fails could not be taken over (RuntimeError: not gpu)"
    ]
    assert plain(kernel, "print(done)") == "1"
    plain(kernel, "sys.scratch_value = 'later'; sys.scratch_lock = threading.Lock()")
    said = notes(kernel.run("%%gpu\nprint('ran')"))
    assert any("scratch.lock" in note and "pickle" in note for note in said), said
    assert any("scratch.fails" in note and "not later" in note for note in said), said


def test_own_settings_are_not_replaced(kernel: Kernel) -> None:
    """A name of zerokernel's own table is refused with what to do."""
    run = kernel.run("import zerokernel; zerokernel.register_setting('cwd', list, print)")
    assert run.error()["ename"] == "ValueError"
    assert "another name" in run.error()["evalue"]


def wheel(folder: Path, version: str) -> str:
    """A wheel with one module, which gives its version."""
    name, info = "zk_scratch_package", f"zk_scratch_package-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return str(path)


def test_another_version_in_the_worker_is_told(kernel: Kernel) -> None:
    """What was installed over an imported package is in a worker only, and the receipt says so."""
    plain(kernel, "import numpy; real = numpy.__version__; numpy.__version__ = '0.1'")
    said = notes(kernel.run("%%gpu\nnumpy.zeros(1)"))
    real = plain(kernel, "print(real)")
    assert any(f"`numpy` is {real} in the worker and 0.1 in the notebook" in s for s in said), said
    assert notes(kernel.run("%%gpu\nnumpy.zeros(1)")) == []


@pytest.mark.slow
def test_what_pip_installs_is_there_in_the_next_cell(machine: Machine, tmp_path: Path) -> None:
    """Installed by either kind of cell it can be imported; what was imported stays as it was."""
    target = tmp_path / "installed"
    install = f"%pip install -q --no-index --no-deps --upgrade --target {target} "
    target.mkdir()
    kernel = machine.kernel()
    assert printed(kernel, "pass") == ""
    plain(kernel, f"import sys; sys.path.append({str(target)!r})")
    assert printed(kernel, "import importlib.util as u; print(u.find_spec('zk_scratch_package'))")
    kernel.run(install + wheel(tmp_path, "1.0"))
    assert printed(kernel, "import zk_scratch_package as z; print(z.version)") == "1.0\n"
    kernel.run(f"%%gpu\n{install}{wheel(tmp_path, '2.0')}")
    assert printed(kernel, "print(z.version)") == "1.0\n"
    assert plain(kernel, "print(z.version)") == "1.0"
    kernel.run("%gpu restart")
    run = kernel.run("%%gpu\nprint(z.version)")
    assert run.text() == "1.0\n"
