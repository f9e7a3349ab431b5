"""Facts in, findings out: what the doctor says about machines that are not at hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

import zerokernel
from zerokernel.doctor import (
    Finding,
    as_json,
    as_lines,
    containing,
    devices,
    limits,
    places,
    reading,
    running,
    surroundings,
    versions,
    worst,
    writes,
)
from zerokernel.doctor.containing import ContainmentFacts, Mechanism
from zerokernel.doctor.devices import DeviceFacts
from zerokernel.doctor.examination import CHECKS, examine
from zerokernel.doctor.limits import LimitFacts
from zerokernel.doctor.places import Place, PlaceFacts
from zerokernel.doctor.reading import ReadingFacts
from zerokernel.doctor.running import BrokerFacts
from zerokernel.doctor.surroundings import SurroundingFacts
from zerokernel.doctor.versions import VersionFacts
from zerokernel.doctor.writes import WriteFacts
from zerokernel.settings import Settings, load

GROUP = Mechanism("control group", True, "", "killed in one step", "")
NO_GROUP = Mechanism("control group", False, "it is read-only", "killed in one step", "Delegate")
WALK = Mechanism("process walk", True, "", "found by walking", "")
NO_WALK = Mechanism("process walk", False, "no /proc", "found by walking", "mount /proc")
H200 = "half H200 · 70 GB"
HOME = Place("/home/ada")
PLACES = PlaceFacts(Place("/run/zk"), Place("/state/l.sqlite"), "auto", True, HOME, 64 << 30)
LIMITS = LimitFacts(None, 64 << 30, None, 1 << 20)
VERSIONS = VersionFacts("3.12.1", "Linux", {"torch": "2.13.0"}, {})
BROKER = BrokerFacts(77, zerokernel.__version__, 5.0, 2)
AROUND = SurroundingFacts(1_800_000_000.0, "tsc", 1000, "ada", "")


def ledger_at(wanted: str = "auto", **place: Any) -> PlaceFacts:
    return replace(PLACES, ledger=Place("/state/l.sqlite", **place), ledger_wanted=wanted)


def runtime_at(**place: Any) -> PlaceFacts:
    return replace(PLACES, runtime=Place("/run/zk", **place))


def held(wanted: str, *mechanisms: Mechanism) -> ContainmentFacts:
    return ContainmentFacts(wanted, mechanisms)


CASES = [
    # containment
    (containing, None, "containment", "limited", "process groups"),
    (containing, held("auto", GROUP, WALK), "containment", "good", "control group"),
    (containing, held("auto", NO_GROUP, WALK), "containment", "limited", "walk.*read-only"),
    (containing, held("auto", NO_GROUP, NO_WALK), "containment", "bad", "nothing.*no /proc"),
    (containing, held("process walk", GROUP, WALK), "containment", "good", "walk, as the setting"),
    (containing, held("control group", NO_GROUP, WALK), "containment", "bad", "wanted.*read-only"),
    (containing, held("prayer", GROUP, WALK), "containment", "bad", "no such mechanism"),
    # devices
    (devices, DeviceFacts("auto", "580", "", (H200,)), "devices", "good", "580; 1 to lease: half"),
    (devices, DeviceFacts("auto", "", "", ("s 1",), True), "devices", "limited", "no NVIDIA"),
    (
        devices,
        DeviceFacts("simulated", "", "", ("s 1",), True),
        "devices",
        "good",
        "as the setting",
    ),
    (devices, DeviceFacts("nvidia", "", "no driver"), "devices", "bad", "no driver"),
    (devices, DeviceFacts("auto", "580"), "devices", "bad", "no slice"),
    (
        devices,
        DeviceFacts("auto", "580", "", (H200,), False, (), (), ("Xid 48 there",)),
        "slices",
        "limited",
        "Xid 48 there",
    ),
    (
        limits,
        replace(LIMITS, sizes={"cores": "", "memory": "", "shm": "nothing holds it"}),
        "sizes",
        "limited",
        r"held to: cores, memory; shm not \(nothing holds it\)",
    ),
    (limits, replace(LIMITS, sizes={"cores": ""}), "sizes", "good", "held to: cores"),
    (
        devices,
        DeviceFacts("auto", "580", "", (H200,), False, ("/dev/nvidia0",)),
        "device files",
        "limited",
        "may open /dev/nvidia0",
    ),
    (
        devices,
        DeviceFacts("auto", "580", "", (H200,), False, (), ("/dev/nvidia0",)),
        "device files",
        "good",
        "closed to this user: /dev/nvidia0",
    ),
    # reading memory
    (reading, ReadingFacts(True), "memory reading", "good", "copied once"),
    (reading, ReadingFacts(False, False, 3), "memory reading", "limited", "ptrace_scope = 3"),
    (reading, ReadingFacts(False, False, 1, True), "memory reading", "limited", "by a filter"),
    (reading, ReadingFacts(False), "memory reading", "limited", "by the system"),
    (reading, ReadingFacts(True, True), "memory reading", "limited", "emulate_ptrace_denied"),
    # write tracking
    (writes, WriteFacts("auto", ""), "write tracking", "good", "pages that were written"),
    (writes, WriteFacts("auto", "denied"), "write tracking", "good", "hashing.*: denied"),
    (writes, WriteFacts("hash", ""), "write tracking", "good", "hashing.*as the setting"),
    (writes, WriteFacts("tracking", ""), "write tracking", "good", "pages that were written"),
    (writes, WriteFacts("tracking", "denied"), "write tracking", "limited", "hashing.*: denied"),
    # places
    (places, PLACES, "runtime directory", "good", "/run/zk on ext4 with 1.0 TiB"),
    (places, runtime_at(kind="NFS", shared=True), "runtime directory", "bad", "other hosts"),
    (places, runtime_at(writable=False), "runtime directory", "bad", "not writable"),
    (places, runtime_at(problem="is open to other users"), "runtime directory", "bad", "is open"),
    (places, runtime_at(free=4096), "runtime directory", "bad", "4 KiB free"),
    (places, PLACES, "ledger", "good", "/state/l.sqlite on ext4"),
    (places, replace(PLACES, ledger=None), "ledger", "good", "in memory"),
    (places, replace(PLACES, ledger=None, server="postgresql://db/x"), "ledger", "good", "//db/x"),
    (places, replace(PLACES, has_sql=False), "ledger", "limited", "not installed"),
    (places, replace(PLACES, has_sql=False, ledger_wanted="sql"), "ledger", "bad", "not installed"),
    (places, ledger_at(kind="NFS", shared=True), "ledger", "limited", "on NFS"),
    (places, ledger_at("sql", kind="NFS", shared=True), "ledger", "bad", "on NFS"),
    (places, ledger_at("sql", writable=False), "ledger", "bad", "not writable"),
    (places, ledger_at(kind="tmpfs", memory=True), "ledger", "limited", "on tmpfs"),
    (places, ledger_at(free=9 << 20), "ledger", "limited", "9.0 MiB free"),
    (places, replace(PLACES, home=Place("/h", "NFS", True)), "home", "good", "only configuration"),
    (places, PLACES, "shared memory", "good", "64.0 GiB"),
    (places, replace(PLACES, shared_memory=64 << 20), "shared memory", "limited", "64.0 MiB"),
    (places, replace(PLACES, shared_memory=None), "shared memory", "limited", "no /dev/shm"),
    # limits
    (limits, LIMITS, "memory", "good", "64.0 GiB, no limit"),
    (limits, replace(LIMITS, memory=8 << 30), "memory", "good", "8.0 of 64.0 GiB"),
    (limits, replace(LIMITS, memory=1 << 30), "memory", "limited", "1.0 of 64.0 GiB"),
    (limits, replace(LIMITS, address_space=1 << 30), "address space", "limited", "1024 MiB"),
    (limits, replace(LIMITS, files=256), "open files", "limited", "256"),
    # versions
    (versions, VERSIONS, "versions", "good", "Python 3.12.1, torch 2.13.0$"),
    (versions, replace(VERSIONS, found={}), "versions", "good", "no torch"),
    (versions, replace(VERSIONS, system="Darwin"), "versions", "bad", "on Darwin"),
    (
        versions,
        replace(VERSIONS, broken={"ipykernel>=7.0": "6.29", "psutil>=5.9": ""}),
        "requirements",
        "bad",
        r"ipykernel>=7.0 \(6.29\), psutil>=5.9 \(missing\)",
    ),
    # the broker
    (running, BROKER, "broker", "good", "process 77, up 5 s, notebooks: 2"),
    (running, BrokerFacts(), "broker", "good", "none runs"),
    (running, BrokerFacts(error="It hangs."), "broker", "bad", "hangs"),
    (running, replace(BROKER, version="0.0.1"), "broker", "limited", "version 0.0.1"),
    (running, replace(BROKER, set_aside=("s 1: a stranger",)), "broker", "limited", "process 77"),
    # surroundings
    (surroundings, AROUND, "clock", "good", "2027-01-15 08:00:00 UTC, counted by tsc"),
    (surroundings, replace(AROUND, now=0.0), "clock", "limited", "1970"),
    (surroundings, replace(AROUND, clock="hpet"), "clock", "limited", "hpet"),
    (surroundings, AROUND, "user", "good", r"ada \(1000\)"),
    (surroundings, replace(AROUND, name=""), "user", "good", "1000, without a name"),
    (surroundings, replace(AROUND, user=0, name="root"), "user", "limited", "root"),
    (surroundings, replace(AROUND, container="docker"), "container", "good", "docker"),
]


@pytest.mark.parametrize(("check", "facts", "name", "state", "says"), CASES)
def test_facts_are_judged(check: Any, facts: Any, name: str, state: str, says: str) -> None:
    """Each machine gets the state and words it should, and what is not good is explained."""
    (found,) = [one for one in check.judge(facts) if one.name == name]
    assert found.state == state
    assert re.search(says, found.says)
    assert bool(found.means) == (found.state != "good")
    assert found.state != "bad" or found.mend


@pytest.mark.parametrize("facts", [LIMITS, replace(LIMITS, files=None)])
def test_limits_that_are_no_limits_are_not_mentioned(facts: LimitFacts) -> None:
    """Nor is a device file where there is none, nor a requirement that is met."""
    assert [one.name for one in limits.judge(facts)] == ["memory"]
    assert [one.name for one in versions.judge(VERSIONS)] == ["versions"]
    assert len(devices.judge(DeviceFacts("auto", "580", "", (H200,)))) == 1


GOOD = Finding("one", "good", "fine")
SO_SO = Finding("number two", "limited", "slow", "it takes long", "buy more")
DIRE = Finding("three", "bad", "broken", "nothing works", "mend it")


def test_lines_are_aligned_and_explain_what_is_not_good() -> None:
    """One line each, then what it means and how to mend it below its text."""
    assert as_lines([GOOD, SO_SO]) == [
        "good     one         fine",
        "LIMITED  number two  slow",
        "                     means: it takes long",
        "                     mend: buy more",
        "",
        "1 limited: cells run.",
    ]
    assert as_lines([DIRE, SO_SO])[-1] == "1 bad, 1 limited: cells will fail."
    assert as_lines([GOOD])[-1] == "All is well."


def test_json_has_all_findings_and_the_worst_state() -> None:
    """For programs, which need no words to decide."""
    told = json.loads(as_json([GOOD, DIRE]))
    assert told["state"] == "bad"
    assert told["findings"][1]["mend"] == "mend it"
    assert [worst([]), worst([GOOD]), worst([SO_SO, GOOD])] == ["good", "good", "limited"]


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others still look, and the words of the failure are there."""

    def fail(settings: Settings) -> None:
        raise RuntimeError("no such luck")

    for check in CHECKS:
        monkeypatch.setattr(check, "look", fail)
    found = examine(load())
    assert [one.state for one in found] == ["limited"] * len(CHECKS)
    assert {one.says for one in found} == {"could not be looked at: RuntimeError: no such luck"}
    assert "places" in [one.name for one in found]
