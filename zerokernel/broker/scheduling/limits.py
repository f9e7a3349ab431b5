"""What supervisors report while tasks run and workers are parked: time, life, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerokernel.broker.scheduling import allowance
from zerokernel.lifecycle import Cause

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.state import SchedulerState
    from zerokernel.messages import Heartbeat, LimitNear, WorkerParked


def extend_limit(state: SchedulerState, event: LimitNear) -> None:
    """Gives a task more time while nobody waits for its size and quota is left.

    A part at a time: who comes meanwhile does not wait for the whole of a long limit.
    """
    lease, policy = state.live(event.session, event.lease), state.policy
    if lease is None or lease.request.firm or not policy.extend_limits:
        return
    if state.queue.others_wait(lease.session, lease.request.size):
        return
    more = min(lease.request.duration, policy.extension_seconds)
    if not (more := allowance.extension(state, lease, more)):
        return
    lease.limit += more
    user, time = lease.session.user, state.queue.standings.time
    state.quotas.extend(lease.id, user, lease.limit, time)
    allowance.review(state, user)
    state.queue.changed.add(lease.request.size)
    state.out.extend(lease)


def take_beats(state: SchedulerState, event: Heartbeat, now: float) -> None:
    """Has the books know how long each running task ran, should this be the last word."""
    running = {}
    for name, ran in event.running.items():
        lease = state.leases.get(name.rpartition(".")[0])
        if lease is not None and lease.id == name and lease.granted_at is not None:
            held = max(0.0, now - lease.granted_at)
            running[name] = (min(max(0.0, ran), held), held)
    if running:
        state.out.beats(running)


def take_parked(state: SchedulerState, event: WorkerParked, now: float) -> None:
    """Takes note of a parked worker's memory, and ends the longest parked beyond the budget."""
    session = state.sessions.get(event.session)
    if session is None or session.worker is None or session.worker.process != event.process:
        return
    session.worker.memory = event.memory
    state.watch(session)
    budget = state.policy.parked_memory
    while state.lookout.parked_memory() > budget and (one := state.lookout.longest_parked()):
        state.stop(one, f"{Cause.EVICTED}: parked workers kept too much memory", now)
