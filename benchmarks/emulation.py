"""What `cuda` in a process without one costs: an operation, a getter, moving 256 MB.

Each beside plain torch in the same run and process: the emulation stands aside for the other
half of each pair. `--quick` takes fewer rounds, `--json` writes the result.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable
from typing import Any

import torch
from report import Row, plain, table, write
from torch.overrides import TorchFunctionMode

from zerokernel import emulation
from zerokernel.emulation.install import install

MEGABYTES = 256


class Empty(TorchFunctionMode):
    """The least that any emulation by a mode costs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs) if kwargs else func(*args)


def best(work: Callable[[], object], number: int) -> float:
    """Seconds of one call, in the fastest of five runs."""
    return min(timeit.repeat(work, number=number, repeat=5)) / number


def pairs(number: int) -> list[Row]:
    """Small operations: on the emulated device, and the same on the CPU of a plain process."""
    x, y = torch.ones(4, 4), torch.ones(4, 4)
    dx, dy = x.to("cuda"), y.to("cuda")
    cases: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("x + y", lambda: dx + dy, lambda: x + y),
        ("x.add_(1)", lambda: dx.add_(1), lambda: x.add_(1)),
        ("x @ y", lambda: dx @ dy, lambda: x @ y),
        ("x.sum(dim=0)", lambda: dx.sum(dim=0), lambda: x.sum(dim=0)),
        ("x[0]", lambda: dx[0], lambda: x[0]),
        ("x.view(16)", lambda: dx.view(16), lambda: x.view(16)),
        ("F.relu(x)", lambda: torch.relu(dx), lambda: torch.relu(x)),
        ("torch.cat([x, y])", lambda: torch.cat([dx, dy]), lambda: torch.cat([x, y])),
        ("torch.zeros(4, 4)", lambda: torch.zeros(4, 4, device="cuda"), lambda: torch.zeros(4, 4)),
    ]
    rows = []
    for what, ours, theirs in cases:
        seconds = best(ours, number)
        with emulation.suspended():
            other = best(theirs, number)
        rows.append(Row(f"{what}, added", seconds - other, "plain", other, target_seconds=8e-6))
    seconds = best(lambda: x + y, number)
    with emulation.suspended():
        other = best(lambda: x + y, number)
        with Empty():
            least = best(lambda: x + y, number)
    rows.append(Row("CPU x + y, added", seconds - other, "plain", other, target_seconds=8e-6))
    rows.append(Row("an empty mode, added to x + y", least - other, "plain", other))
    return rows


def getters(number: int) -> list[Row]:
    x = torch.ones(4)
    dx = x.to("cuda")
    rows = []
    for what, ours in (
        ("x.device", lambda: dx.device),
        ("x.is_cuda", lambda: dx.is_cuda),
        ("x.device of a CPU tensor", lambda: x.device),
    ):
        seconds = best(ours, number)
        with emulation.suspended():
            other = best(lambda: x.device, number)
        rows.append(Row(what, seconds, "plain", other, target_seconds=1e-6))
    return rows


def moving() -> list[Row]:
    """`.to("cuda")`: put off until one of the two is written to, and written at once."""
    big = torch.ones(MEGABYTES << 18)
    copy = best(big.clone, 1)
    rows = [
        Row(f'{MEGABYTES} MB .to("cuda")', best(lambda: big.to("cuda"), 1), "clone", copy,
            target_ratio=0.1),
        Row(f'{MEGABYTES} MB .to("cuda").add_(1)', best(lambda: big.to("cuda").add_(1), 1),
            "clone().add_(1)", best(lambda: big.clone().add_(1), 1), target_ratio=1.5),
    ]  # fmt: skip
    big.numpy()  # from now on somebody else may write to it
    rows.append(
        Row(f'{MEGABYTES} MB .to("cuda"), NumPy sees it', best(lambda: big.to("cuda"), 1), "clone",
            copy, target_ratio=1.5)
    )  # fmt: skip
    return rows


def training(number: int) -> Row:
    """A step of a small network, which is nothing but overhead."""

    def step(device: str) -> Callable[[], object]:
        model = torch.nn.Sequential(
            torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
        ).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        data = torch.ones(4, 8).to(device)

        def work() -> None:
            optimizer.zero_grad()
            model(data).square().mean().backward()
            optimizer.step()

        return work

    ours = best(step("cuda"), number)
    with emulation.suspended():
        return Row("a training step of 2 layers", ours, "plain", best(step("cpu"), number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    number = 2_000 if options.quick else 20_000
    torch.set_num_threads(1)
    install(emulation.DeviceProfile(), from_the_start=True)
    rows = [*pairs(number), *getters(number), *moving(), training(max(50, number // 100))]
    emulation.remove()
    print(table(rows))
    if options.json:
        content = {"slices": ["no slice"], "repetitions": vars(options), "rows": plain(rows)}
        print(f"wrote {write('emulation', 'cpu', content).name}")


if __name__ == "__main__":
    main()
