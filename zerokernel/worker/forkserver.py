"""The forkserver: a single-threaded process with everything imported, ready to fork.

Run as ``python -m zerokernel.worker.forkserver``; one for each user and interpreter.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import os
import sys
from pathlib import Path

SECRET_VARIABLE = "ZEROKERNEL_SUPERVISOR_SECRET"

# Before NumPy and torch are imported: their thread pools must not exist when we fork.
# ONE_THREAD is taken back in each worker.
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    """Imports, listens, serves; returns the exit status."""
    options = _parse(arguments)
    secret = bytes.fromhex(os.environ.pop(SECRET_VARIABLE))
    own_threads = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    # Otherwise torch.cuda.is_available() initialises the driver and poisons later forks.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

    from zerokernel import settings as configuration
    from zerokernel.containment import processes, settle
    from zerokernel.wire import listen

    settings = configuration.load()
    containment = settle(settings.containment)
    print(f"zerokernel: workers are contained by: {containment.name}", file=sys.stderr, flush=True)
    listener = listen(options.address, secret, read_memory=not settings.emulate_ptrace_denied)
    _announce(options.address_file, listener.address)

    from zerokernel.worker.child import Child
    from zerokernel.worker.shell import build_shell
    from zerokernel.worker.supervisor import Supervisor

    kernel = build_shell()
    _import_heavy_libraries()
    if settings.emulate_cuda and "torch" in sys.modules:
        importlib.import_module("zerokernel.emulation.install")  # most sessions have it begin
    processes.adopt_orphans()
    child = Child(kernel, own_threads, settings.change_detection)
    _share_pages()
    supervisor = Supervisor(
        listener,
        child.run,
        containment,
        settings.broker_grace_seconds,
        settings.return_seconds,
        _import_the_rest,
    )
    try:
        supervisor.run()
    finally:
        # The broker that started this may have died before it could write that down.
        options.address_file.unlink(missing_ok=True)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zerokernel.worker.forkserver")
    parser.add_argument("--address", required=True)
    parser.add_argument("--address-file", type=Path, required=True)
    return parser.parse_args(arguments)


def _announce(path: Path, address: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(address)
    temporary.rename(path)


def _import_heavy_libraries() -> None:
    """Imports NumPy and torch where they are installed, without starting a thread."""
    if importlib.util.find_spec("numpy") is not None:
        import numpy  # noqa: F401 - for the forks
    if importlib.util.find_spec("torch") is not None:
        import torch

        # Before any operation: with a thread pool in the parent every fork would hang.
        torch.set_num_threads(1)
        torch.zeros(8, 8) @ torch.zeros(8, 8)


def _import_the_rest() -> None:
    """Imports what the first optimizer step would: torch's compiler takes two seconds."""
    if "torch" in sys.modules:
        importlib.import_module("torch._dynamo")

        from zerokernel.ambient import begin

        begin(in_worker=True)
    if (questions := sys.modules.get("zerokernel.emulation.functions")) is not None:
        questions.look()
    _share_pages()


def _share_pages() -> None:
    """Keeps the collector off what is imported, so that its pages stay shared with forks."""
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
