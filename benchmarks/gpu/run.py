"""All that needs a real device: the spike, the tests marked gpu, slices, the cell benchmarks.

Without a device it says so and ends with status 2.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
STEPS = (
    [str(HERE / "spike.py")],
    ["-m", "pytest", "-m", "gpu", "-v", "tests/gpu", "tests/contracts/test_device_memory.py"],
    ["-m", "pytest", "-k", "real", "-v", "tests/contracts/test_devices.py"],
    [str(HERE / "slices.py")],
    [str(HERE.parent / "cell_latency.py")],
    [str(HERE.parent / "crossing.py")],
)


def main() -> int:
    worst = 0
    for step in STEPS:
        status = subprocess.run([sys.executable, *step], cwd=HERE.parent.parent).returncode
        if status == 2 and step is STEPS[0]:
            return status
        worst = max(worst, abs(status))
    return min(worst, 1)


if __name__ == "__main__":
    sys.exit(main())
