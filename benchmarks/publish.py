"""Puts the newest results into docs/benchmarks.md, between the markers of each benchmark."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from report import RESULTS, Row, table

PAGE = RESULTS.parent.parent / "docs" / "benchmarks.md"
MARKED = re.compile(r"<!-- ([\w-]+) -->\n.*?<!-- /\1 -->", re.DOTALL)
BUSY = 1.0
"""Load before the start from which on the figures are said to be of a busy machine."""


def main() -> int:
    PAGE.write_text(published(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
    return 0


def published(page: str, folder: Path) -> str:
    """Gives the page with the newest results; a benchmark without any says so."""
    return MARKED.sub(lambda found: _section(found[1], folder), page)


def _section(name: str, folder: Path) -> str:
    files = sorted(folder.glob(f"{name}-????-??-??-*.json"))
    newest = {path.stem.rpartition("-")[2]: path for path in files}  # by kind: cpu, gpu
    parts = [_part(json.loads(path.read_text())) for _, path in sorted(newest.items())]
    body = "\n\n".join(parts) or "It has not run yet."
    return f"<!-- {name} -->\n{body}\n<!-- /{name} -->"


def _part(result: dict[str, Any]) -> str:
    known = Row.__dataclass_fields__.keys()
    rows = [Row(**{key: row[key] for key in known}) for row in result["rows"]]
    return f"{_heading(result)}\n\n{table(rows)}"


def _heading(result: dict[str, Any]) -> str:
    machine = result["machine"]
    words = [
        result["date"],
        f"{machine['cores']} cores of {machine['cpu']}",
        f"{machine['memory_gib']:.0f} GiB",
        *(f"{name} {machine[name]}" for name in ("python", "torch", "ipyparallel")),
        f"on {' and '.join(result['slices'])}",
    ]
    busy = f" The machine was busy: load {machine['load_before']:g} before the start."
    return ", ".join(words) + "." + (busy if machine["load_before"] > BUSY else "")


if __name__ == "__main__":
    sys.exit(main())
