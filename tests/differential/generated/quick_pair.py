"""A pair of kernels that judges many small programs a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.differential.generated.writer import Step
from tests.differential.judge import ALL_LIBRARIES, OBSERVER, Cut, Pair, Side, compare, outputs_of
from tests.differential.program import Program
from tests.kernels import KernelStuck

RECENT = 64
"""So many programs are tried together where one fails only after others."""
TIMEOUT = 60.0


class OnlyAfterOthers(AssertionError):
    """A program fails after those that ran before it in the same kernels, but not alone."""


class QuickPair(Pair):
    """Runs program after program in two kernels, which are wiped in between.

    Looks at digests only; a program that differs is run again with a fresh worker, and told
    in full. The mutable state: the kernels (of `Pair`), and the programs that they ran last.
    """

    def __init__(
        self,
        directory: Path,
        *,
        libraries: str = ALL_LIBRARIES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, libraries=libraries, environment=environment)
        self._recent: deque[Program] = deque(maxlen=RECENT)
        self._frozen = False
        self._seen: tuple[list[Any], list[Any]] = ([], [])

    def judge(self, program: Program) -> list[str]:
        """What differs between a plain and a leased run; [] where nothing does.

        Raises:
            OnlyAfterOthers: It differs only in kernels that ran other programs before.
        """
        try:
            if self._agrees(program):
                self._recent.append(program)
                return []
            return self._found(program)
        except KernelStuck as error:
            self.close()
            return [str(error)]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        super().close()
        self._recent.clear()
        self._frozen = False

    def _both(self) -> tuple[Side, Side]:
        sides = super()._both()
        if not self._frozen:
            for side in sides:
                side.silently(f"{OBSERVER}.freeze()")
            self._frozen = True
        return sides

    # --- the quick look ------------------------------------------------------------------

    def _agrees(self, program: Program) -> bool:
        left, right = self._both()
        plain = self._submit(left, program, leased=False)
        other = self._submit(right, program, leased=True)
        self._seen = self._collect(left, plain, program), self._collect(right, other, program)
        return self._seen[0] == self._seen[1]

    def _submit(self, side: Side, program: Program, *, leased: bool) -> list[list[str]]:
        """Queues everything at once: a wipe, then each cell with a look at its end."""
        then = {"user_expressions": {"seen": f"{OBSERVER}.brief({program.hold})"}}
        requests = [[side.kernel.submit(f"{OBSERVER}.wipe()", silent=True)]]
        for cell in program.cells:
            source = cell.leased() if leased else cell.plain()
            if isinstance(cell, Step) and cell.raises:  # then its own look would not be taken
                again = side.kernel.submit(source), side.kernel.submit("", silent=True, **then)
                requests.append(list(again))
            else:
                requests.append([side.kernel.submit(source, **then)])
        return requests

    def _collect(self, side: Side, requests: list[list[str]], program: Program) -> list[Any]:
        wiped, *cells = [[side.kernel.collect(r, TIMEOUT) for r in each] for each in requests]
        assert wiped[0].status == "ok", wiped
        seen = []
        for cell, runs in zip(program.cells, cells, strict=True):
            looks = [run.reply["user_expressions"] for run in runs if run.reply is not None]
            digests = [look["seen"]["data"]["text/plain"] for look in looks if look]
            if not (isinstance(cell, Step) and cell.lost):
                reply = runs[0].reply or {}
                told = [reply.get(k) for k in ("status", "ename", "evalue", "traceback")]
                digests.append(side.clean([outputs_of(runs[0]), told]))
            seen.append(digests)
        return seen

    # --- the long look -------------------------------------------------------------------

    def _found(self, program: Program) -> list[str]:
        seen_before = self._seen
        self.fresh_worker()
        found = self.told(program)
        if not found:
            seen = "\n".join(f"{a}\n{b}" for a, b in zip(*seen_before, strict=True) if a != b)
            raise OnlyAfterOthers(f"{seen}\n{self._with_others(program)}")
        self.fresh_worker()
        return found

    def told(self, program: Program) -> list[str]:
        """Runs it again and looks at everything."""
        left, right = self._both()
        for side in (left, right):
            side.silently(f"{OBSERVER}.wipe()")
        plain = left.submit(program, [cell.plain() for cell in program.cells])
        other = right.submit(program, [cell.leased() for cell in program.cells])
        cuts = (left.collect(plain, TIMEOUT), right.collect(other, TIMEOUT))
        return compare(*(_without_loss(program, side) for side in cuts))

    def fresh_worker(self) -> None:
        """What earlier programs left in the worker is gone."""
        self._both()[1].silently("%gpu restart")

    def _with_others(self, program: Program) -> str:
        """Looks for a short run of programs, this one last, that fails on a fresh worker."""
        others = list(self._recent)
        counts = [count for count in (1, 4, 16) if count < len(others)] + [len(others)]
        for count in counts:
            if self._fails_after(others[-count:], program):
                break
        else:
            return f"does not fail again, not even after {count} others:\n\n{script(program)}"
        needed = others[-count:]
        for other in list(needed):
            without = [each for each in needed if each is not other]
            if self._fails_after(without, program):
                needed = without
        found = self._fails_after(needed, program)
        texts = [script(each) for each in (*needed, program)]
        return "\n\n".join([f"fails after {len(needed)} others:", *texts, *found])

    def _fails_after(self, others: list[Program], program: Program) -> list[str]:
        self.fresh_worker()
        for other in others:
            if not self._agrees(other):
                return ["another one of them fails"]
        return self.told(program)


def _without_loss(program: Program, cuts: list[Cut]) -> list[Cut]:
    """Of a cell that is lost, only the namespace is compared."""
    return [
        Cut(cut.cell, None, None, cut.namespace)
        if isinstance(cell, Step) and cell.lost
        else Cut(cell.source, cut.outputs, cut.reply, cut.namespace)
        for cell, cut in zip(program.cells, cuts, strict=True)
    ]


def script(program: Program) -> str:
    """The program as it could stand among the hand-written ones."""
    lines = [f"# === {program.name}{'' if program.hold else ' [free]'}: {program.purpose}"]
    for cell in program.cells:
        how = " gpu" if cell.gpu else ""
        if isinstance(cell, Step) and (cell.lost or cell.kill):
            how += ", and its worker is killed"
        lines += [f"# %%{how}", cell.source]
    return "\n".join(lines)
