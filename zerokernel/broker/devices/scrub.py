"""Has the memory of a device overwritten, in another process."""

from __future__ import annotations

import os
import subprocess
import sys

SCRUB_SECONDS = 60.0


def scrub_device(uuid: str) -> str:
    """Overwrites the free memory of a device or MIG instance.

    Returns:
        Why it could not, "" where it could.
    """
    shown = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": uuid}
    command = [sys.executable, "-m", "zerokernel.broker.devices.overwriting"]
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, **shown},
            capture_output=True,
            text=True,
            timeout=SCRUB_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"overwriting it took more than {SCRUB_SECONDS:g} s"
    if ended.returncode == 0:
        return ""
    lines = ended.stderr.strip().splitlines()
    return lines[-1] if lines else f"overwriting it ended with status {ended.returncode}"
