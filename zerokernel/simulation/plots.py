"""A comparison as pictures, with matplotlib where it is installed."""

from __future__ import annotations

import base64
import html
import io
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerokernel.errors import BadSimulation
from zerokernel.simulation.tables import as_text

if TYPE_CHECKING:
    from zerokernel.simulation.comparison import Comparison
    from zerokernel.simulation.outcomes import Run

KINDS = (".png", ".html")
_POINTS = 400
_COLOURS = ("#0072b2", "#e69f00", "#999999")


def check(path: Path) -> None:
    """Raises BadSimulation where a picture could not be drawn there: said before the work."""
    if path.suffix.lower() not in KINDS:
        raise BadSimulation(f"--plot {path}: the name must end with {' or '.join(KINDS)}.")
    if not path.absolute().parent.is_dir():
        raise BadSimulation(f"--plot {path}: there is no such folder.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BadSimulation(
            "--plot needs matplotlib, which is not installed here: `pip install matplotlib`."
        ) from error


def draw(comparison: Comparison, path: Path) -> None:
    """Draws waiting times, slices in use and fairness as PNG, or as a page with the tables.

    Raises BadSimulation where the file cannot be written.
    """
    picture = _png(comparison)
    page = path.suffix.lower() == ".html"
    try:
        path.write_bytes(_page(comparison, picture) if page else picture)
    except OSError as error:
        raise BadSimulation(f"--plot {path} cannot be written: {error.strerror}.") from error


def _page(comparison: Comparison, picture: bytes) -> bytes:
    image = base64.b64encode(picture).decode()
    text = html.escape(as_text(comparison))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>zerokernel simulate</title>'
        '<body style="font-family: sans-serif; margin: 2em">'
        f'<img style="max-width: 100%" alt="Waiting times, slices in use and fairness; the same '
        f'figures are in the tables below." src="data:image/png;base64,{image}">'
        f"<pre>{text}</pre></body></html>\n"
    ).encode()


def _png(comparison: Comparison) -> bytes:
    # Not pyplot: it would choose a screen, and keep the figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    (waits, limits), (slices, rho) = figure.subplots(2, 2)
    _draw_waits(waits, comparison)
    _draw_limits(limits, comparison)
    _draw_slices(slices, comparison)
    _draw_rho(rho, comparison)
    figure.suptitle(comparison.workload.origin)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _draw_waits(axes: Any, comparison: Comparison) -> None:
    for colour, (name, run) in zip(_COLOURS, comparison.runs.items(), strict=True):
        waits = sorted(max(one.wait, 0.1) for one in run.served)
        shares = [(number + 1) / len(waits) for number in range(len(waits))]
        axes.step(waits, shares, color=colour, label=name, where="post")
    axes.set(xscale="log", xlabel="seconds waited, at least 0.1", ylabel="share of cells")
    axes.set_title("How long cells wait")
    axes.legend()


def _draw_limits(axes: Any, comparison: Comparison) -> None:
    names = [name for name in next(iter(comparison.measures.values())).waits if name != "all"]
    ways = comparison.measures.items()
    for number, (colour, (way, measures)) in enumerate(zip(_COLOURS, ways, strict=True)):
        found = [measures.waits.get(name) for name in names]
        heights = [max(one.p90, 0.1) if one else 0.1 for one in found]
        axes.bar(
            [at + number * 0.27 for at in range(len(names))], heights, 0.25, color=colour, label=way
        )
    axes.set_xticks([at + 0.27 for at in range(len(names))], names, rotation=30, ha="right")
    axes.set(yscale="log", ylabel="seconds, p90")
    axes.set_title("Waiting by tier and by limit")


def _draw_slices(axes: Any, comparison: Comparison) -> None:
    seconds = comparison.workload.seconds
    times = [seconds * number / _POINTS for number in range(_POINTS + 1)]
    for colour, (name, run) in zip(_COLOURS, comparison.runs.items(), strict=True):
        axes.plot([one / 3600 for one in times], _held_at(run, times), color=colour, label=name)
    axes.axhline(sum(comparison.layout.values()), color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="hours", ylabel="slices held", ylim=(0, None))
    axes.set_title("Slices that are somebody's")


def _held_at(run: Run, times: list[float]) -> list[int]:
    starts, ends = sorted(one for one, _ in run.held), sorted(one for _, one in run.held)
    return [bisect_right(starts, at) - bisect_right(ends, at) for at in times]


def _draw_rho(axes: Any, comparison: Comparison) -> None:
    labels = ("p50", "p90", "p99", "most")
    ways = comparison.measures.items()
    for number, (colour, (way, measures)) in enumerate(zip(_COLOURS, ways, strict=True)):
        heights = [getattr(measures.rho, label) for label in labels]
        at = [place + number * 0.27 for place in range(len(labels))]
        axes.bar(at, heights, 0.25, color=colour, label=way)
    axes.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xticks([at + 0.27 for at in range(len(labels))], ("p50", "p90", "p99", "max"))
    axes.set(yscale="log", ylabel="times as long as alone")
    axes.set_title("Finish-time fairness by user")
