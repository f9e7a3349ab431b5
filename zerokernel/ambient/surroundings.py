"""One process's side of the state that a notebook and its worker have in common."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zerokernel.ambient import cuda, on_import, on_worker, reporting, table
from zerokernel.ambient.local_modules import Ran, local_modules
from zerokernel.ambient.process import SHARING
from zerokernel.ambient.quiet import quietly
from zerokernel.ambient.setting import GONE
from zerokernel.ambient.versions import versions


@dataclass(frozen=True)
class Changes:
    """What the other side has to take over.

    Attributes:
        plain: Settings by name, each pickled: what has to be there before objects are loaded.
        ran: The user's own modules that ran or were taken out.
        live: What travels with the notebook's objects, by what it is called in a note.
        notes: What cannot travel, one sentence each.
    """

    plain: dict[str, bytes]
    ran: dict[str, Ran]
    live: dict[str, Any]
    notes: list[str]


class Surroundings:
    """Knows on which state both sides agreed last.

    Args:
        in_worker: The notebook is the master: at first the worker takes all over.
    """

    def __init__(self, *, in_worker: bool) -> None:
        self._in_worker = in_worker
        self._agreed: table.State | None = None
        self._looked = 0
        self._imported = 0
        self._next: tuple[table.State, int] = ({}, 0)

    def changes(self) -> Changes:
        """What is different now from what both sides agreed on: everything, at first."""
        now, looked = table.capture(), local_modules.look()
        self._next = (now, looked)
        whole = self._agreed is None
        delta = now if self._agreed is None else table.diff(self._agreed, now)
        plain, notes = _pickled({n: v for n, v in delta.items() if not table.is_live(n)})
        live = _labelled({name: v for name, v in delta.items() if table.is_live(name)})
        ran = local_modules.ran(self._looked, whole=whole)
        return Changes(plain, ran, live | local_modules.sets(self._looked), notes)

    def sent(self) -> None:
        """The other side has what `changes` gave."""
        (self._agreed, self._looked), self._imported = self._next, len(sys.modules)

    def agree(self) -> None:
        """What is here now is what both sides have."""
        self._agreed, self._looked = table.capture(), local_modules.look()
        self._imported = len(sys.modules)

    def enter(self, plain: Mapping[str, bytes], ran: dict[str, Ran]) -> list[str]:
        """Takes over what has to be there before objects are loaded; gives notes."""
        if not plain and not ran:
            return []
        delta, notes = _unpickled(plain)
        notes += table.apply(self._relative(delta)) + local_modules.run(ran)
        self.agree()
        return notes

    def loaded(self) -> list[str]:
        """Undoes what loading objects did to plain settings, by importing what they need.

        What a library did when the other process imported it was told with the rest.

        Returns:
            One sentence for each package of which both sides have different versions.
        """
        cuda.objects_loaded()
        if len(sys.modules) != self._imported and self._agreed is not None:
            before = {name: v for name, v in self._agreed.items() if not table.is_live(name)}
            table.apply(table.diff(table.capture(), before))
            self.agree()
        return versions.notes()

    def enter_live(self, live: Mapping[str, Any]) -> list[str]:
        """Takes over what came with the notebook's objects; gives notes."""
        if not live:
            return []
        delta, modules = _unlabelled(live)
        notes = table.apply(delta) if delta else []
        if modules:
            notes += local_modules.apply(modules, in_place=not self._in_worker)
        self.agree()
        return notes

    def prepare_worker(self) -> list[str]:
        """Runs what the user registered to be run in each worker; gives notes."""
        ran, notes = on_worker.run_new()
        if ran:
            self.agree()  # what it set is this worker's
        return notes

    def committed(self) -> None:
        """The other side's objects are loaded: what was imported for them, both have."""
        if len(sys.modules) != self._imported:
            self.agree()

    def _relative(self, delta: table.State) -> table.State:
        if self._agreed is not None or not self._in_worker:
            return delta
        present = table.capture()
        whole = {
            name: table.with_removals(name, present.get(name), value)
            for name, value in delta.items()
        }
        # What the notebook has not set itself; as both then agree, it never gets there.
        missing = {k: v for k, v in SHARING.items() if k not in delta.get("environ", SHARING)}
        return {**whole, "environ": whole["environ"] | missing} if missing else whole


@contextmanager
def _repeating() -> Iterator[None]:
    """Around an import that the other process made before: it says and sets nothing anew."""
    before = {name: value for name, value in table.capture().items() if not table.is_live(name)}
    try:
        with quietly():
            yield
    finally:
        del before["imported"]
        table.apply(table.diff(table.capture(), before))


def begin(*, in_worker: bool) -> None:
    """Notes what is this process's own, before the first cell of a session.

    A forkserver calls this for its workers, which inherit it; again after it imported more.
    """
    on_import.around_repetitions(_repeating)
    cuda.begin(in_worker=in_worker)
    reporting.loggers.start()
    local_modules.start()
    if in_worker:
        reporting.filters.keep_own()
    table.capture()  # what it looks up for the first time, all forks have


def _pickled(delta: table.State) -> tuple[dict[str, bytes], list[str]]:
    plain: dict[str, bytes] = {}
    notes: list[str] = []
    for name, value in delta.items():
        try:
            plain[name] = pickle.dumps(value)
        except Exception as error:
            notes.append(table.failed(name, error))
    return plain, notes


def _unpickled(plain: Mapping[str, bytes]) -> tuple[table.State, list[str]]:
    delta: table.State = {}
    notes: list[str] = []
    for name, value in plain.items():
        try:
            delta[name] = pickle.loads(value)
        except Exception as error:
            notes.append(table.failed(name, error))
    return delta, notes


_SETTING = "setting"


def _labelled(delta: table.State) -> dict[str, Any]:
    """One entry for each value, so that one that cannot travel keeps no other back."""
    found: dict[str, Any] = {}
    for name, value in delta.items():
        if not table.is_keyed(name):
            found[name] = (_SETTING, name, GONE, value)
            continue
        for key, item in value.items():
            found[f"{name} {_text(key)}"] = (_SETTING, name, key, item)
    return found


def _text(key: Any) -> str:
    if isinstance(key, tuple):
        return " ".join(map(_text, key))
    return str(getattr(key, "name", None) or getattr(key, "__name__", None) or key)


def _unlabelled(live: Mapping[str, Any]) -> tuple[table.State, dict[str, Any]]:
    delta: table.State = {}
    modules: dict[str, Any] = {}
    for label, value in live.items():
        if value[0] != _SETTING:
            modules[label] = value
        elif value[2] is GONE:
            delta[value[1]] = value[3]
        else:
            delta.setdefault(value[1], {})[value[2]] = value[3]
    return delta, modules
