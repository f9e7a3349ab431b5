"""Runs one program in two kernels and says where they differ."""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.differential import observer
from tests.differential.program import Cell, Program
from tests.kernels import ROOT, Kernel, KernelStuck, Run, joined

ALL_LIBRARIES = "numpy, torch" if importlib.util.find_spec("torch") else "numpy"
"""What a kernel is started with, of what is installed here."""

PRELUDE = f"""
import sys as _s, types as _t
_m = _s.modules["differential_observer"] = _t.ModuleType("differential_observer")
_text = open({str(Path(observer.__file__))!r}).read()
exec(compile(_text, "differential_observer", "exec"), vars(_m))
import {{libraries}}
_m.observer = _m.Observer(get_ipython())
_m.observer.reset()
"""
OBSERVER = '__import__("sys").modules["differential_observer"].observer'

_NOISE = [
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"0x[0-9a-fA-F]{5,}"), "0x…"),
    (re.compile(r"/[\w./-]{0,80}/ipykernel_\d+/\d+\.py"), "<cell>"),
    (re.compile(r"\b\d{6,}\.py\b"), "<cell>.py"),
    (re.compile(r"\bid=\d{9,}"), "id=…"),
    # Timings of %time and progress bars.
    (re.compile(r"\b\d+(\.\d+)?(e\+\d+)? (ns|[uµμ]s|ms|s)\b"), "<time>"),
    (re.compile(r"\b\d+:\d\d<[\d:?]+,\s+[\d.?]+\s*(it/s|s/it)"), "<rate>"),
    # When a line was logged, and by which process.
    (re.compile(r"\b[IWE]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ "), "<log> "),
    # How long scikit-learn's searches took, in the table that shows one.
    (
        re.compile(
            r'(--doc-link-(?:cv_results|refit_time)_;">(?:(?!<tr).)*?'
            r'class="fitted-att-type">\w+</td>\s*<td>)[^<]*',
            re.DOTALL,
        ),
        r"\1<times>",
    ),
]


@dataclass(frozen=True)
class Cut:
    """Everything observable after one cell."""

    cell: str
    outputs: Any
    reply: Any
    namespace: Any


class Side:
    """One kernel of the pair, with its observer."""

    def __init__(
        self,
        directory: Path,
        *,
        leased: bool,
        libraries: str,
        emulated: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        # One thread of arithmetic, so that sums are equal bit for bit.
        environment = {
            **(environment or {}),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "IPYTHONDIR": str(directory.parent / f"{directory.name}-ipython"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        self.kernel = Kernel(environment, directory=directory)
        try:
            if leased:
                self.kernel.load_extension()
            elif emulated:
                self.silently("import zerokernel; zerokernel.emulate(); del zerokernel")
            prelude = self.kernel.run(PRELUDE.format(libraries=libraries), silent=True)
            assert prelude.status == "ok", prelude
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.kernel.close()

    def reset(self) -> None:
        """A clean namespace in a clean directory."""
        for old in self._directory.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        self.silently(f"{OBSERVER}.reset()")

    def silently(self, source: str) -> None:
        run = self.kernel.run(source, silent=True)
        assert run.status == "ok", run

    def submit(self, program: Program, cells: list[str]) -> list[tuple[str, str, str]]:
        """Queues all cells, each followed by a silent look at the namespace."""
        look = {"report": f"{OBSERVER}.report({program.hold}, {program.ignore!r})"}
        return [
            (
                source,
                self.kernel.submit(source, user_expressions={"seen": "1 + 1"}),
                self.kernel.submit("", silent=True, user_expressions=look),
            )
            for source in cells
        ]

    def collect(self, submitted: list[tuple[str, str, str]], timeout: float) -> list[Cut]:
        cuts = []
        for source, cell, look in submitted:
            run = self.kernel.collect(cell, timeout)
            seen = self.kernel.collect(look, timeout)
            cuts.append(self._cut(source, run, seen))
        return cuts

    def _cut(self, source: str, run: Run, seen: Run) -> Cut:
        assert seen.reply is not None
        assert run.reply is not None
        report = seen.reply["user_expressions"]["report"]
        assert report["status"] == "ok", f"the observer failed after {source!r}: {report}"
        reply = {k: run.reply.get(k) for k in ("status", "execution_count", "ename", "evalue")}
        reply |= {k: run.reply.get(k) for k in ("traceback", "payload", "user_expressions")}
        return Cut(
            source,
            self.clean(outputs_of(run)),
            self.clean(reply),
            self.clean(report["data"]["application/json"]),
        )

    def clean(self, value: Any) -> Any:
        """Takes out what differs between any two runs: addresses, file names, times."""
        if isinstance(value, str):
            for place, name in ((self._directory, "<cwd>"), (ROOT, "<root>")):
                value = value.replace(str(place), name)
            for pattern, replacement in _NOISE:
                value = pattern.sub(replacement, value)
            return value
        if isinstance(value, dict):
            return {self.clean(k): self.clean(v) for k, v in value.items()}
        return [self.clean(v) for v in value] if isinstance(value, (list, tuple)) else value


def outputs_of(run: Run) -> list[dict[str, Any]]:
    """The outputs without zerokernel's own, with the pieces of a stream joined."""
    displays: dict[str, str] = {}
    found = joined(o for o in run.outputs if "zerokernel" not in (o.get("metadata") or {}))
    for output in found:
        # Ids of displays are random where the program does not choose them.
        transient = output.get("transient") or {}
        if identity := transient.get("display_id"):
            name = displays.setdefault(identity, f"display {len(displays)}")
            output["transient"] = {**transient, "display_id": name}
    return found


class Pair:
    """A plain kernel and a leasing one, used for program after program.

    ``libraries`` are imported in both at the start, because their random generators have to
    be seeded before a program begins. ``emulated`` gives both an emulated `cuda` device.
    ``environment`` is added to that of the leasing kernel.
    """

    def __init__(
        self,
        directory: Path,
        *,
        leased: bool = True,
        libraries: str = "numpy",
        emulated: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._directory, self._leased, self._libraries = directory, leased, libraries
        self._emulated = emulated
        self._environment = environment
        self._sides: tuple[Side, Side] | None = None

    def _both(self) -> tuple[Side, Side]:
        if self._sides is None:
            kind: dict[str, Any] = {"libraries": self._libraries, "emulated": self._emulated}
            left = Side(self._directory / "left", leased=False, **kind)
            try:
                right = Side(
                    self._directory / "right",
                    leased=self._leased,
                    environment=self._environment,
                    **kind,
                )
            except BaseException:
                left.close()
                raise
            self._sides = (left, right)
        return self._sides

    def close(self) -> None:
        sides, self._sides = self._sides, None
        for side in sides or ():
            side.close()

    def differences(
        self,
        program: Program,
        rewrite: Callable[[Cell], str] = Cell.leased,
        *,
        timeout: float = 40.0,
    ) -> list[str]:
        """Runs the program plain and rewritten; gives what differs, [] where nothing does."""
        left, right = self._both()
        try:
            for side in (left, right):
                side.reset()
            # Both kernels work at the same time; the answers are read one after the other.
            plain = left.submit(program, [cell.plain() for cell in program.cells])
            other = right.submit(program, [rewrite(cell) for cell in program.cells])
            found = compare(left.collect(plain, timeout), right.collect(other, timeout))
        except KernelStuck as error:
            self.close()
            return [str(error)]
        except BaseException:
            self.close()
            raise
        if found and self._leased:
            self.close()  # whatever went wrong must not reach the next program
        return found


def compare(plain: list[Cut], other: list[Cut]) -> list[str]:
    """One text per thing that differs, naming the cell; empty when all is equal."""
    found = []
    for number, (left, right) in enumerate(zip(plain, other, strict=True), 1):
        for what in ("outputs", "reply", "namespace"):
            before, after = getattr(left, what), getattr(right, what)
            if before != after:
                found.append(
                    f"cell {number} ({what})\n{_indent(left.cell)}\n{_difference(before, after)}"
                )
    return found


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _difference(before: Any, after: Any) -> str:
    lines = list(
        difflib.unified_diff(_lines(before), _lines(after), "plain", "%%gpu", lineterm="", n=0)
    )
    return "\n".join(lines[:60])


def _lines(value: Any) -> list[str]:
    """Pretty lines to compare; each object with the path by which it is reached."""
    if isinstance(value, dict) and "nodes" in value:
        before = value["before"] or [None] * len(value["nodes"])
        nodes = [
            f"{number} {path} (was {was}): {json.dumps(node, ensure_ascii=False)}"
            for number, (path, node, was) in enumerate(
                zip(value["paths"], value["nodes"], before, strict=True)
            )
        ]
        rest = {k: value[k] for k in ("roots", "order", "around")}
        return [*nodes, *_lines(rest)]
    return json.dumps(value, indent=1, ensure_ascii=False).splitlines()
