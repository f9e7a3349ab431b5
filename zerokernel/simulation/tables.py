"""A comparison as tables in plain text, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from zerokernel.simulation.comparison import Comparison
from zerokernel.simulation.measures import Measures, Spread

Row = tuple[str, ...]
_SPREAD = ("count", "mean", "p50", "p90", "p99", "most")


def as_text(comparison: Comparison) -> str:
    """Gives what was simulated, a table of all figures, and one of waiting times."""
    return "\n".join((*_heading(comparison), "", *_figures(comparison), "", *_waits(comparison)))


def as_csv(comparison: Comparison) -> str:
    """Gives a line for each figure of each way of sharing, times in seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("way", "figure", "of", "value"))
    for way, measures in comparison.measures.items():
        writer.writerows((way, *row) for row in _plain_rows(measures))
    return text.getvalue()


def _plain_rows(measures: Measures) -> Iterator[tuple[str, str, float]]:
    for name, one in measures.waits.items():
        yield from _spread_rows("wait_s", name, one)
    yield from _spread_rows("rho", "users", measures.rho)
    yield from _spread_rows("eta_error_s", "starts told", measures.eta_error)
    for field in ("cells", "finished", "cut", "refused", "jain", "jain_contended", "used", "held"):
        yield field, "all", getattr(measures, field)
    for field in ("utilisation", "occupied", "eta_late", "makespan"):
        yield field, "all", getattr(measures, field)


def _spread_rows(name: str, of: str, spread: Spread) -> Iterator[tuple[str, str, float]]:
    for field in _SPREAD:
        yield f"{name}_{field}", of, getattr(spread, field)


# --- text ---------------------------------------------------------------------------------


def _heading(comparison: Comparison) -> Iterator[str]:
    workload, layout = comparison.workload, comparison.layout
    slices = ", ".join(f"{count:,} {size}" for size, count in layout.items())
    load = workload.work / (sum(layout.values()) * workload.seconds)
    yield f"{workload.origin}: {workload.seconds / 3600:g} h on slices: {slices}"
    yield (
        f"{workload.users:,} users open {len(workload.notebooks):,} notebooks with "
        f"{len(workload):,} cells of {workload.work / 3600:,.0f} h together: "
        f"{load:.0%} of the slices"
    )
    times = ", ".join(f"{name} {run.seconds:.1f} s" for name, run in comparison.runs.items())
    yield f"computed in: {times}"


def _figures(comparison: Comparison) -> list[str]:
    every = list(comparison.measures.values())

    def row(name: str, texts: Iterable[str]) -> Row:
        return (name, *texts)

    return table(
        ("", *comparison.measures),
        [
            row(
                "waiting, mean",
                (seconds(one.waits["all"].mean) if one.waits else "" for one in every),
            ),
            row("GPU-hours used", (f"{one.used:,.0f}" for one in every)),
            row("GPU-hours held", (f"{one.held:,.0f}" for one in every)),
            row("slices busy", (f"{one.utilisation:.0%}" for one in every)),
            row("slices held", (f"{one.occupied:.0%}" for one in every)),
            row("Jain, GPU-s by weight", (f"{one.jain:.3f}" for one in every)),
            row("… while somebody waits", (f"{one.jain_contended:.3f}" for one in every)),
            row("rho p50", (f"{one.rho.p50:.2f}" for one in every)),
            row("rho p90", (f"{one.rho.p90:.2f}" for one in every)),
            row("rho max", (f"{one.rho.most:,.2f}" for one in every)),
            row("error of start told, p50", (_error(one, one.eta_error.p50) for one in every)),
            row("error of start told, p90", (_error(one, one.eta_error.p90) for one in every)),
            row("last cell ends after", (f"{one.makespan / 3600:.1f} h" for one in every)),
            row("cells finished", (f"{one.finished:,}" for one in every)),
            row("ended at their limit", (f"{one.cut:,}" for one in every)),
            row("refused", (f"{one.refused:,}" for one in every)),
        ],
    )


def _error(measures: Measures, error: float) -> str:
    return seconds(error) if measures.eta_error.count else "none told"


def _waits(comparison: Comparison) -> list[str]:
    names = list(dict.fromkeys(name for one in comparison.measures.values() for name in one.waits))
    head = ("waiting", "way", "cells", "mean", "p50", "p90", "p99", "longest")
    return table(head, [row for name in names for row in _wait_rows(comparison, name)])


def _wait_rows(comparison: Comparison, name: str) -> Iterator[Row]:
    for way, measures in comparison.measures.items():
        if one := measures.waits.get(name):
            times = (one.mean, one.p50, one.p90, one.p99, one.most)
            yield name, way, f"{one.count:,}", *map(seconds, times)


def table(head: Row, rows: Sequence[Row]) -> list[str]:
    """Gives the lines of a table: words to the left, figures to the right."""
    cells = [head, *rows]
    words = [all(not row[at][:1].isdigit() for row in rows) for at in range(len(head))]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    return ["  ".join(map(_aligned, row, widths, words)).rstrip() for row in cells]


def _aligned(text: str, width: int, word: bool) -> str:
    return text.ljust(width) if word else text.rjust(width)


def seconds(time: float) -> str:
    """Gives "0.3 s", "4.2 min", "11 h"."""
    if time < 99.5:
        return f"{time:.0f} s" if time >= 9.95 else f"{time:.1f} s"
    return f"{time / 60:.1f} min" if time < 5970 else f"{time / 3600:.1f} h"
