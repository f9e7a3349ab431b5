"""The supervisor with real forks: its child here is a few lines instead of a shell."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zerokernel.containment import NAMES, probe
from zerokernel.containment.control_group import locate
from zerokernel.containment.processes import descendants
from zerokernel.errors import ChannelClosed
from zerokernel.messages import (
    Bind,
    ExtendLimit,
    Heartbeat,
    Hello,
    LimitNear,
    Message,
    Park,
    Shutdown,
    StopWorker,
    SupervisorReady,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
    WorkerKept,
    WorkerParked,
)
from zerokernel.wire import Channel, connect

SECRET = b"s" * 32

# The child obeys single words that its "kernel" sends as FetchName.
PROGRAM = """
import os, subprocess, sys, threading, time
from zerokernel.messages import (
    FetchName, FetchedName, LimitNear, TaskEnded, TaskReturning, TaskStarted, TaskStuck
)
from zerokernel.wire import listen
from zerokernel.containment import processes, settle, wait_until_contained
from zerokernel.worker.supervisor import Supervisor

def child(channel, control, hello):
    wait_until_contained()
    while True:
        word = channel.receive().message.name
        if word == "bound?":
            bind = control.receive().message
            control.send(TaskStarted(bind.session, bind.lease))
            word = bind.slice
        elif word == "return":
            control.send(TaskReturning(bind.session, bind.lease, 1.5))
        elif word == "short":
            bind = control.receive().message
            control.send(TaskStarted(bind.session, bind.lease))
            control.send(TaskReturning(bind.session, bind.lease, 0.001))
            control.send(TaskEnded(bind.session, bind.lease, 0.001))
        elif word == "near":
            control.send(LimitNear(bind.session, bind.lease))
        elif word == "extended?":
            word = f"{control.receive().message.limit:g}"
        elif word == "stuck":
            control.send(TaskStuck(bind.session, bind.lease, "inside a call"))
        elif word == "end":
            control.send(TaskEnded(bind.session, bind.lease, 1.5))
        elif word == "tree":
            orphan = "import os,time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
            subprocess.run([sys.executable, "-c", orphan])
            busy = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            word = str(busy.pid)
        elif word == "exit":
            os._exit(3)
        channel.send(FetchedName(word, True))

listener = listen(sys.argv[1], b"s" * 32)
processes.adopt_orphans()
containment = settle(sys.argv[3])

def idle():
    open(sys.argv[1][5:] + ".idle", "w").close()

Supervisor(listener, child, containment, float(sys.argv[2]), 0.5, idle).run()
"""


class Party:
    """A supervisor process, with the test as its broker and its kernels."""

    def __init__(self, directory: Path, containment: str, grace: float) -> None:
        self.address = f"unix:{directory}/supervisor"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, self.address, str(grace), containment],
            start_new_session=True,
        )
        self.broker = self.first_call()
        self.channels = [self.broker]
        assert isinstance(self.hear(), SupervisorReady)

    def first_call(self) -> Channel:
        """Calls until the supervisor listens; its socket's file is there a moment before."""
        until = time.monotonic() + 20
        while True:
            try:
                return self.call(Hello("broker"))
            except OSError:
                if time.monotonic() > until:
                    self.process.kill()
                    raise
                time.sleep(0.005)

    def call(self, hello: Hello) -> Channel:
        return connect(self.address, hello, SECRET)

    def kernel(self, session: str) -> Channel:
        channel = self.call(Hello("kernel", session, os.getpid()))
        self.channels.append(channel)
        return channel

    def hear(self) -> Message:
        """The next report; heartbeats and parked memory come when they come."""
        while True:
            message = self.broker.receive(20).message
            if not isinstance(message, Heartbeat | WorkerParked):
                return message

    def forked(self, session: str) -> tuple[Channel, int]:
        channel = self.kernel(session)
        message = self.hear()
        assert isinstance(message, WorkerForked)
        return channel, message.process

    def bind(self, session: str, lease: str, limit: float = 60.0, hold: float = 60.0) -> None:
        bind = Bind(session, lease, {}, f"slice of {lease}", True, limit, hold, lease)
        self.broker.send(bind)

    def tree(self, worker: int) -> list[int]:
        """The one worker, its child and its orphaned grandchild."""

        def found() -> list[int]:
            every = descendants(self.process.pid)
            return [one for one in every if one == worker or "time.sleep(600)" in command(one)]

        # A process has no command for a moment after its start.
        wait_for(lambda: len(found()) == 3, "a whole tree")
        return found()


def beats(party: Party) -> Iterator[Heartbeat]:
    """The supervisor's heartbeats; other reports are passed over."""
    while True:
        message = party.broker.receive(20).message
        if isinstance(message, Heartbeat):
            yield message


def wait_for(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.005)


def ask(channel: Channel, word: str) -> str:
    from zerokernel.messages import FetchedName, FetchName

    channel.send(FetchName(word))
    answer = channel.receive(20).message
    assert isinstance(answer, FetchedName)
    return answer.name


def state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def is_frozen(process: int) -> bool:
    """Whether it is stopped, or its control group is frozen."""
    if state(process) == "T":
        return True
    mounts = Path("/proc/self/mountinfo").read_text()
    group = locate(Path(f"/proc/{process}/cgroup").read_text(), mounts)
    events = group / "cgroup.events" if group is not None else None
    return events is not None and events.exists() and "frozen 1" in events.read_text()


@pytest.fixture(params=NAMES)
def containment(request: pytest.FixtureRequest) -> str:
    """Each way to contain workers that works here."""
    (finding,) = probe([request.param])
    if not finding.works:
        pytest.skip(f"{finding.name}: {finding.reason}")
    return finding.name


@pytest.fixture(params=[30.0], ids=["patient"])
def party(request: pytest.FixtureRequest, containment: str, tmp_path: Path) -> Iterator[Party]:
    running = Party(tmp_path, containment, request.param)
    yield running
    if running.process.poll() is None:
        running.broker.send(Shutdown())
    assert running.process.wait(20) == 0
    for channel in running.channels:
        channel.close()


def test_bind_run_end(party: Party) -> None:
    """A worker is forked for a kernel, bound on the grant, and its start and end are told."""
    kernel, _ = party.forked("a")
    party.bind("a", "l1")
    assert ask(kernel, "bound?") == "slice of l1"
    assert party.hear() == TaskStarted("a", "l1")
    ask(kernel, "end")
    assert party.hear() == TaskEnded("a", "l1", 1.5)


def test_a_short_task_is_one_report(party: Party) -> None:
    """What begins and ends within a moment is told by its end alone."""
    kernel, _ = party.forked("a")
    for lease in ("l1", "l2"):
        party.bind("a", lease)
        ask(kernel, "short")
        assert party.hear() == TaskEnded("a", lease, 0.001)


def test_grant_before_the_kernel_came(party: Party) -> None:
    """A grant is kept for a kernel that connects after it."""
    party.bind("a", "l1")
    kernel, _ = party.forked("a")
    assert ask(kernel, "bound?") == "slice of l1"


def test_parked_worker_is_frozen_and_thaws(party: Party) -> None:
    """A parked worker's processes are stopped; the next grant continues them."""
    kernel, process = party.forked("a")
    ask(kernel, "tree")
    tree = party.tree(process)
    party.broker.send(Park("a"))
    wait_for(lambda: all(map(is_frozen, tree)), "frozen")
    party.bind("a", "l2")
    wait_for(lambda: not any(map(is_frozen, tree)), "thawed")
    assert ask(kernel, "bound?") == "slice of l2"


@pytest.mark.parametrize("frozen", [False, True])
def test_stopping_kills_the_tree(party: Party, frozen: bool) -> None:
    """A stopped worker dies with its children and its orphaned grandchildren, frozen or not."""
    kernel, process = party.forked("a")
    ask(kernel, "tree")
    tree = party.tree(process)
    if frozen:
        party.broker.send(Park("a"))
        wait_for(lambda: is_frozen(process), "frozen")
    party.broker.send(StopWorker("a", "evicted"))
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert ended.cause == "evicted"
    wait_for(lambda: all(state(one) in ("gone", "Z") for one in tree), "all dead")
    with pytest.raises(ChannelClosed):
        ask(kernel, "bound?")


def test_a_late_order_does_not_hit_the_next_worker(party: Party) -> None:
    """Orders that name the worker before are passed over."""
    _, first = party.forked("a")
    kernel = party.kernel("a")
    ended, forked = party.hear(), party.hear()
    assert isinstance(ended, WorkerEnded)
    assert isinstance(forked, WorkerForked)
    party.broker.send(StopWorker("a", "restart", first))
    party.broker.send(Park("a", first))
    party.bind("a", "l1")
    assert ask(kernel, "bound?") == "slice of l1"


def test_a_bind_that_is_taken_back_leaves_the_next_worker_alone(party: Party) -> None:
    """Its notebook gave up and asks anew: its next worker may be there before the order is."""
    kernel, _ = party.forked("a")
    party.broker.send(StopWorker("a", "replaced", lease="l1"))
    party.bind("a", "l2")
    assert ask(kernel, "bound?") == "slice of l2"


def test_a_bind_that_nobody_came_for_ends_with_its_broker(party: Party) -> None:
    """The next broker does not know of it, and may give the slice to somebody else."""
    party.bind("a", "l1")
    party.broker.close()
    party.broker = party.call(Hello("broker"))
    party.channels.append(party.broker)
    assert isinstance(party.hear(), SupervisorReady)
    kernel = party.kernel("a")
    assert isinstance(party.hear(), WorkerForked)
    party.bind("a", "l2")
    assert ask(kernel, "bound?") == "slice of l2"


def test_a_bind_for_a_dying_worker_is_the_next_ones(party: Party) -> None:
    """Sent right after the order that ends the worker, it waits for the notebook's next."""
    party.forked("a")
    party.bind("a", "l1")
    party.broker.send(StopWorker("a", "replaced", lease="l1"))
    party.bind("a", "l2")
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert (ended.lease, ended.cause) == ("l1", "replaced")
    kernel = party.kernel("a")
    assert isinstance(party.hear(), WorkerForked)
    assert ask(kernel, "bound?") == "slice of l2"


def test_killed_from_outside(party: Party) -> None:
    """A SIGKILL from somebody else is reported with its lease, and orphans die too."""
    kernel, process = party.forked("a")
    party.bind("a", "l1")
    ask(kernel, "bound?")
    assert isinstance(party.hear(), TaskStarted)
    ask(kernel, "tree")
    tree = party.tree(process)
    os.kill(process, signal.SIGKILL)
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert (ended.cause, ended.lease) == ("killed", "l1")
    assert "SIGKILL" in ended.detail
    wait_for(lambda: all(state(one) in ("gone", "Z") for one in tree), "orphans dead")


def test_exit_status_is_told(party: Party) -> None:
    """A worker that ends itself is reported as exited, with its status."""
    kernel, _ = party.forked("a")
    from zerokernel.messages import FetchName

    kernel.send(FetchName("exit"))
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert ended.cause == "exited"
    assert "3" in ended.detail


def test_deadline(party: Party) -> None:
    """A task that outruns its limit is killed by the supervisor itself."""
    kernel, process = party.forked("a")
    party.bind("a", "l1", limit=0.2)
    ask(kernel, "bound?")
    assert isinstance(party.hear(), TaskStarted)
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert ended.cause == "deadline"
    assert ended.ran >= 0.2
    assert state(process) in ("gone", "Z")


def test_what_a_task_did_instead_of_stopping_is_told(party: Party) -> None:
    """The worker's last word before its end at the limit is part of the report."""
    kernel, _ = party.forked("a")
    party.bind("a", "l1", limit=0.5)
    ask(kernel, "bound?")
    ask(kernel, "stuck")
    assert isinstance(party.hear(), TaskStarted)
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert (ended.cause, ended.detail) == ("deadline", "inside a call")


def test_a_limit_is_extended(party: Party) -> None:
    """The broker hears that time runs out; its answer moves the deadline and reaches the worker."""
    kernel, _ = party.forked("a")
    party.bind("a", "l1", limit=0.5)
    ask(kernel, "bound?")
    ask(kernel, "near")
    assert isinstance(party.hear(), TaskStarted)
    assert party.hear() == LimitNear("a", "l1")
    party.broker.send(ExtendLimit("a", "l1", 1.0))
    assert ask(kernel, "extended?") == "1"
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert ended.ran >= 1.0


def test_results_that_nobody_takes_end_the_worker(party: Party) -> None:
    """The way home has a time of its own; what the cell ran until then is charged."""
    kernel, _ = party.forked("a")
    party.bind("a", "l1", limit=60)
    ask(kernel, "bound?")
    ask(kernel, "return")
    assert isinstance(party.hear(), TaskStarted)
    assert isinstance(party.hear(), TaskReturning)
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert (ended.cause, ended.ran) == ("results not taken", 1.5)


def test_heartbeats_tell_how_long_tasks_have_run(party: Party) -> None:
    """Also while nothing runs: silence means that the supervisor hangs."""
    assert next(beats(party)).running == {}
    kernel, _ = party.forked("a")
    party.bind("a", "l1")
    ask(kernel, "bound?")
    first = next(beat for beat in beats(party) if beat.running)
    second = next(beats(party))
    assert 0 <= first.running["l1"] < second.running["l1"]


def test_ends_without_a_broker_are_told_to_the_next(party: Party) -> None:
    """What a task ran is not forgotten because there was nobody to tell it to."""
    kernel, process = party.forked("a")
    party.bind("a", "l1")
    ask(kernel, "bound?")
    party.broker.close()
    ask(kernel, "end")
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: state(process) == "gone", "the worker's end")
    party.broker = party.call(Hello("broker"))
    party.channels.append(party.broker)
    ready = party.hear()
    assert isinstance(ready, SupervisorReady)
    assert ready.kept == 0
    assert party.hear() == TaskEnded("a", "l1", 1.5)
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert (ended.process, ended.cause) == (process, "killed")


def test_what_is_put_off_waits_for_a_quiet_moment(party: Party, tmp_path: Path) -> None:
    """Work for idle times is done neither while a task runs nor before its end is told."""
    idle = tmp_path / "supervisor.idle"
    kernel, _ = party.forked("a")
    party.bind("a", "l1", limit=1.2)
    ask(kernel, "bound?")
    assert isinstance(party.hear(), TaskStarted)
    assert isinstance(party.hear(), WorkerEnded)
    assert not idle.exists()
    wait_for(idle.exists, "the quiet moment")


def test_hold_without_a_start(party: Party) -> None:
    """A lease whose task never starts ends with its hold time."""
    party.forked("a")
    party.bind("a", "l1", hold=0.2)
    ended = party.hear()
    assert isinstance(ended, WorkerEnded)
    assert (ended.cause, ended.ran) == ("start failed", 0.0)


def test_kernel_that_comes_again_gets_a_new_worker(party: Party) -> None:
    """A second connection of one session replaces the first worker."""
    _, first = party.forked("a")
    party.kernel("a")
    ended, forked = party.hear(), party.hear()
    assert isinstance(ended, WorkerEnded)
    assert isinstance(forked, WorkerForked)
    assert forked.process != first
    assert state(first) in ("gone", "Z")


def test_new_broker_takes_over(party: Party) -> None:
    """A broker that connects after another's end learns which workers there are."""
    _, process = party.forked("a")
    party.broker.close()
    party.broker = party.call(Hello("broker"))
    party.channels.append(party.broker)
    ready = party.hear()
    assert isinstance(ready, SupervisorReady)
    assert ready.kept == 1
    kept = party.hear()
    assert isinstance(kept, WorkerKept)
    assert (kept.session, kept.process, kept.lease, kept.ran) == ("a", process, "", -1.0)


def test_the_end_of_a_task_is_told_to_every_broker(party: Party) -> None:
    """The one that it was told to may have been killed before it read it; until its Park."""
    kernel, _ = party.forked("a")
    party.bind("a", "l1")
    ask(kernel, "bound?")
    for word, kind in (("return", TaskReturning), ("end", TaskEnded)):
        ask(kernel, word)
        wait_for_report(party, kind)
        party.broker.close()
        party.broker = party.call(Hello("broker"))
        party.channels.append(party.broker)
        assert isinstance(party.hear(), SupervisorReady)
        assert isinstance(party.hear(), WorkerKept)
        assert party.hear() == kind("a", "l1", 1.5)


def wait_for_report(party: Party, kind: type[Message]) -> None:
    """Reads until such a report came."""
    while not isinstance(party.hear(), kind):
        pass


def test_a_bound_worker_is_kept_with_its_times(party: Party) -> None:
    """How long it was held is counted from its Bind, how long it ran from its start."""
    kernel, _ = party.forked("a")
    party.bind("a", "l1")
    ask(kernel, "bound?")
    party.broker.close()
    party.broker = party.call(Hello("broker"))
    party.channels.append(party.broker)
    assert isinstance(party.hear(), SupervisorReady)
    kept = party.hear()
    assert isinstance(kept, WorkerKept)
    assert kept.lease == "l1"
    assert 0 <= kept.ran < kept.held


@pytest.mark.parametrize("party", [0.2], ids=["impatient"], indirect=True)
def test_without_a_broker_everything_ends(party: Party) -> None:
    """When no broker comes within the grace time, workers and supervisor end."""
    _, process = party.forked("a")
    party.broker.close()
    assert party.process.wait(20) == 0
    wait_for(lambda: state(process) in ("gone", "Z"), "worker dead")


def test_stranger_is_refused(party: Party) -> None:
    """A caller with a wrong secret gets nothing, and the supervisor goes on."""
    from zerokernel.errors import AuthenticationFailed

    with pytest.raises(AuthenticationFailed):
        connect(party.address, Hello("kernel", "x"), b"guess")
    party.forked("a")
