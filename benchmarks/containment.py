"""What it takes to fork a worker under each containment mechanism, and to kill its tree.

The forking process has torch imported, where it is installed, as a supervisor has. Beside the
fork, in the same run: a plain fork. The hostile tree has eight descendants that left session and
parent and ignore signals; the fork bomb has two hundred processes. Both are of a plain Python: most
of a kill is the system's work of taking the memory of each process back. Takes half a minute.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import sys
import time
from pathlib import Path

from report import Row, median, plain, table, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the trees are those of the tests

from tests.integration.containment.holder import BOMB_LIMIT, Holder
from zerokernel.containment import Containment, Finding, adopt_orphans, choose, probe

KILL_SECONDS = 0.05
TREES = {"hostile": "a tree of 9", "bomb": f"a fork bomb of {BOMB_LIMIT}"}


def main() -> int:
    options = _parser().parse_args()
    adopt_orphans()
    findings = probe()
    for one in findings:
        if not one.works:
            print(f"{one.name} does not work here: {one.reason}")
    work = [one for one in findings if one.works]
    rows = [row for one in work for row in kill_rows(one, options.kills)]
    _become_heavy()
    rows += [fork_row(one, options.forks) for one in work]
    print(table(rows))
    content = {"slices": ["no device"], "repetitions": vars(options), "rows": plain(rows)}
    print(f"\nwrote {write('containment', 'cpu', content).name}")
    return 0


def kill_rows(finding: Finding, count: int) -> list[Row]:
    containment = choose([finding])
    rows = [Row(f"{finding.name}: trial at a supervisor's start", finding.seconds)]
    for tree, words in TREES.items():
        times = [kill(containment, tree) for _ in range(count)]
        what = f"{finding.name}: kill {words}"
        rows.append(Row(what, median(times), target_seconds=KILL_SECONDS))
    return rows


def fork_row(finding: Finding, count: int) -> Row:
    containment = choose([finding])
    pairs = [(plain_fork(), contained_fork(containment)) for _ in range(count)]
    beside, ours = median([one for one, _ in pairs]), median([one for _, one in pairs])
    return Row(f"{finding.name}: fork, until contained", ours, "plain fork", beside)


def plain_fork() -> float:
    """Until the child runs."""
    hear, say = os.pipe()
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.write(say, b"x")
        os._exit(0)
    os.read(hear, 1)
    elapsed = time.perf_counter() - begin
    os.waitpid(child, 0)
    os.close(hear)
    os.close(say)
    return elapsed


def contained_fork(containment: Containment) -> float:
    """Until the worker is contained and runs."""
    holder = Holder(containment)
    begin = time.perf_counter()
    holder.fork("quiet")
    elapsed = time.perf_counter() - begin
    holder.kill()
    return elapsed


def kill(containment: Containment, tree: str) -> float:
    """From the order to the end of the last process of the tree."""
    holder = Holder(containment)
    holder.fork(tree)
    killed = holder.kill()
    if not killed["all gone"]:
        raise RuntimeError(f"{tree} outlived its end by {containment.name}")
    return float(killed["seconds"])


def _become_heavy() -> None:
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)
        torch.zeros(8, 8) @ torch.zeros(8, 8)
    gc.collect()
    gc.freeze()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=15)
    parser.add_argument("--kills", type=int, default=7)
    return parser


if __name__ == "__main__":
    sys.exit(main())
