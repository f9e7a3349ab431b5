import json
import subprocess
import sys
from pathlib import Path

import pytest

SPIKE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu" / "spike.py"
ONE = [sys.executable, str(SPIKE), "--device", "cpu", "--mib", "4", "--inside"]


def run(name: str) -> dict[str, tuple[float, str]]:
    pytest.importorskip("torch")
    done = subprocess.run([*ONE, name], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name",
    ["fork", "memory", *(pytest.param(n, marks=pytest.mark.slow) for n in
     ("initialise", "frozen", "alternate", "copies", "placement"))],
)  # fmt: skip
def test_an_experiment_runs_where_the_cpu_stands_in_for_the_device(name):
    """Each experiment's plumbing works without a device, and every figure has a unit."""
    figures = run(name)
    assert figures
    assert all(value >= 0 and unit in {"s", "GB/s", "MiB"} for value, unit in figures.values())


def test_memory_of_a_killed_process_is_seen_to_come_back():
    """The experiment sees the memory taken, and sees it gone after the kill."""
    figures = run("memory")
    assert figures["memory of context and 4 MiB"][0] >= 4
    assert figures["left over then"][0] == 0


def test_without_a_device_the_spike_says_so():
    """No device is status 2 and one line, no traceback."""
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin", "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, str(SPIKE)], capture_output=True, text=True, timeout=100,
        env=hidden | {"PYTHONPATH": str(SPIKE.parents[2])},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Nothing to measure: ")
    assert "Traceback" not in done.stderr
