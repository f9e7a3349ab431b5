"""NVIDIA GPUs: whole, as MIG instances, or in shares; found and watched over by NVML."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from zerokernel.broker.devices.found import Gpu, Part, is_share, memory_of_profile
from zerokernel.broker.devices.health import Faults
from zerokernel.broker.devices.layout import Layout, difference, shares
from zerokernel.broker.devices.naming import name_slices
from zerokernel.broker.devices.nvml import Machine, NvmlReader
from zerokernel.broker.devices.owners import Owner, owner_of
from zerokernel.broker.devices.port import Trouble, Use
from zerokernel.broker.devices.scrub import scrub_device
from zerokernel.broker.devices.sizes import Size
from zerokernel.broker.scheduling import Slice

log = logging.getLogger("zerokernel.broker")

FREE_SECONDS = 10.0
"""Memory of a process that ended is given back by then."""

_POLL_SECONDS = 0.05
_SLACK_BYTES = 256 << 20
"""What a driver keeps for itself grows by so much at most."""

_MEND = "Restore it (`nvidia-smi mig`), or change the setting layout and run `zerokernel stop`"


class NvidiaDevices:
    """The slices of a machine's GPUs.

    Args:
        nvml: The module `pynvml`, or one like it.
        visible: What CUDA_VISIBLE_DEVICES was for the user: only these are given; None is all.
        layout: What is declared. Of a device of which nothing is declared, what is found first
            is what it should be.
        sizes: What an administrator defines.
        owner: Tells whose a process is.
        scrub: Overwrites the memory of a device that it is given by UUID.
        clock: Monotonic seconds.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        nvml: Any,
        visible: str | None = None,
        layout: Layout | None = None,
        sizes: Iterable[Size] = (),
        owner: Owner = owner_of,
        scrub: Callable[[str], str] = scrub_device,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reader = NvmlReader(nvml)
        self._visible = visible
        self._layout = layout or Layout()
        self._sizes = tuple(sizes)
        self._owner = owner
        self._scrub = scrub
        self._clock = clock
        self._pause = pause
        # All mutable state: what each GPU should be and was last, what is wrong, what was seen.
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._known: dict[str, list[Part]] = {}
        self._missing: set[str] = set()
        self._differs: dict[str, str] = {}
        self._faults = Faults(clock)
        self._unclean: dict[str, tuple[str, bool]] = {}
        self._idle_use: dict[str, int] = {}
        self._unknown: set[tuple[str, int]] = set()

    # --- what there is ------------------------------------------------------------------

    def discover(self) -> list[Slice]:
        """Gives the slices of all devices that are visible."""
        with self._reader.session():
            machine = self._reader.machine()
            self._compare(machine)
            for parts in machine.parts.values():
                for part in parts:
                    self._note_idle_use(part.uuid)
        if not self._reader.listens:
            self._reader.listen([gpu.uuid for gpu in machine.parts])
        offered = [part for parts in self._known.values() for part in parts]
        return name_slices(_visible(offered, self._visible), self._sizes)

    def _compare(self, machine: Machine) -> None:
        """Holds what is found against what should be there."""
        first = not self._wanted
        found = {gpu.uuid: (gpu, parts) for gpu, parts in machine.parts.items()}
        if first:
            for gpu, parts in machine.parts.items():
                forms = self._layout.of(gpu) or tuple(part.form for part in parts)
                self._wanted[gpu.uuid] = forms
                self._known[gpu.uuid] = _as_declared(gpu, forms)
            self._warn_of_absent(machine)
        self._missing.clear()
        self._differs.clear()
        for uuid, wanted in self._wanted.items():
            if uuid not in found:
                continue  # its slices do not answer
            gpu, parts = found[uuid]
            if why := difference(wanted, parts):
                self._differs[uuid] = why
                self._missing |= {p.id for p in self._known[uuid]} - {p.id for p in parts}
            elif wanted and is_share(wanted[0]):
                self._known[uuid] = shares(wanted, parts[0])
            else:
                self._known[uuid] = parts

    def _warn_of_absent(self, machine: Machine) -> None:
        there = {name for gpu in machine.parts for name in (gpu.uuid, str(gpu.index))}
        for name in self._layout.forms.keys() - there - {"*"}:
            log.warning("the layout declares a device %s, which is not there", name)
        for name, why in machine.broken.items():
            log.warning("the device %s is not offered: %s", name, why)

    def _note_idle_use(self, uuid: str) -> None:
        """Learns what is in use on a part where nobody is."""
        used = self._reader.used_memory(uuid)
        if used is not None and not self._reader.processes(uuid):
            self._idle_use[uuid] = min(used, self._idle_use.get(uuid, used))

    # --- what is wrong with it ----------------------------------------------------------

    def find_troubles(self, slices: Iterable[Slice], use: Use) -> dict[str, Trouble]:
        """Tells of layouts that differ, devices that are lost or faulty, foreign processes."""
        found = {}
        asked = list(slices)
        with self._reader.session():
            self._faults.take(self._reader.take_events(), self._known)
            seen, self._unknown = self._unknown, set()
            for one in asked:
                if trouble := self._trouble(one, use, seen):
                    found[one.id] = trouble
        return found

    def _trouble(self, one: Slice, use: Use, seen: set[tuple[str, int]]) -> Trouble | None:
        if why := self._differs.get(one.device):
            text = f"the layout of the GPU {one.device} has changed: {why}. {_MEND}"
            return Trouble(text, lost=one.id in self._missing)
        shown = _shown(one)
        if why := self._reader.why_lost(shown):
            return Trouble(f"{one.name} does not answer any more: {why}", lost=True)
        if fault := self._faults.of(one.id):
            if not self._faults.is_over(one.id, self._reader.needs_recovery(one.device)):
                return Trouble(f"{one.name} had a hardware error: {fault}", lost=True)
            self._unclean[one.id] = (f"{one.name} had a hardware error: {fault}", True)
        if one.id in self._unclean and one.id not in use.occupied:
            return self._clean_again(one)
        return self._foreigner(one, shown, use, seen)

    def _foreigner(
        self, one: Slice, shown: str, use: Use, seen: set[tuple[str, int]]
    ) -> Trouble | None:
        for process in self._reader.processes(shown):
            who = self._owner(process, use.roots)
            if who is None:
                # One that ended may be listed for a moment, and one of ours be out of sight.
                self._unknown.add((shown, process))
                if self._is_ours(shown, use) or (shown, process) not in seen:
                    continue
                who = f"process {process}, which cannot be seen from here"
            if who:
                return Trouble(
                    f"{one.name} is in use by {who}, which zerokernel did not start; end it",
                    spoils=True,
                )
        return None

    def _is_ours(self, shown: str, use: Use) -> bool:
        return any(name == shown or name.startswith(f"{shown}/") for name in use.occupied)

    # --- between two users --------------------------------------------------------------

    def clean(self, one: Slice, scrub: bool) -> str:
        """Waits until a slice's memory is free, and overwrites it if asked."""
        reason = self._why_unclean(one, FREE_SECONDS) or (self._scrubbed(one) if scrub else "")
        if reason:
            reason = f"{one.name} did not come back clean: {reason}"
            self._unclean[one.id] = (reason, scrub)
        else:
            self._unclean.pop(one.id, None)
            self._faults.forget(one.id)
        return reason

    def _scrubbed(self, one: Slice) -> str:
        if _shown(one) != one.id:
            return ""  # its neighbours' memory is not told apart; shares are of one user
        return self._scrub(one.id)

    def _clean_again(self, one: Slice) -> Trouble | None:
        before, scrub = self._unclean[one.id]
        if self._why_unclean(one, 0.0) or (scrub and self._scrubbed(one)):
            return Trouble(before)
        del self._unclean[one.id]
        self._faults.forget(one.id)
        return None

    def _why_unclean(self, one: Slice, patience: float) -> str:
        until = self._clock() + patience
        while True:
            with self._reader.session():
                reason = self._what_is_left(one)
            if not reason or self._clock() >= until:
                return reason
            self._pause(_POLL_SECONDS)

    def _what_is_left(self, one: Slice) -> str:
        shown = _shown(one)
        if shown != one.id:
            return ""  # a share: what is in use may be its neighbours'
        if why := self._reader.why_lost(shown):
            return why
        if processes := self._reader.processes(shown):
            return f"process {', '.join(map(str, processes))} still has memory there"
        limit = self._idle_use.get(shown, math.inf) + _SLACK_BYTES
        used = self._reader.used_memory(shown)
        if used is not None and used > limit:
            return f"{used / (1 << 30):.1f} GB are in use there, and no process tells whose"
        return ""

    def close(self) -> None:
        """Lets go of NVML."""
        self._reader.stop_listening()


def _as_declared(gpu: Gpu, forms: tuple[str, ...]) -> list[Part]:
    """Stands for parts that are not there as they should be: nobody gets them."""
    return [
        Part(gpu, form, f"{gpu.uuid}/{form}", memory_of_profile(form) or gpu.memory, number)
        for number, form in enumerate(forms, 1)
    ]


def _shown(one: Slice) -> str:
    """The device or instance that a worker on a slice is shown; of a share its whole GPU."""
    return one.environment["CUDA_VISIBLE_DEVICES"]


def _visible(parts: list[Part], visible: str | None) -> list[Part]:
    """Keeps what the words of CUDA_VISIBLE_DEVICES name: an index, or the start of a UUID."""
    if visible is None:
        return parts
    kept: list[Part] = []
    for word in (part.strip() for part in visible.split(",")):
        named = [one for one in parts if _is_named(one, word)]
        if not named:
            break  # as CUDA does: what follows an unknown device is not visible
        kept += [one for one in named if one not in kept]
    return kept


def _is_named(one: Part, word: str) -> bool:
    if word.isdigit():
        return one.gpu.index == int(word)
    return word.startswith(("GPU-", "MIG-")) and (
        one.uuid.startswith(word) or one.gpu.uuid.startswith(word)
    )
