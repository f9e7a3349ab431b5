"""Notebooks that come, are lost and come back, and what they leave when they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerokernel.broker.scheduling.allowance import review
from zerokernel.broker.scheduling.records import Account, Session
from zerokernel.broker.scheduling.requests import release
from zerokernel.lifecycle import Cause

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import SessionClosed, SessionConnected, SessionLost
    from zerokernel.broker.scheduling.state import SchedulerState


def connected(state: SchedulerState, event: SessionConnected, now: float) -> None:
    """A notebook is here, for the first time or again; what is granted to it is told again."""
    session = state.sessions.get(event.session)
    if session is None:
        account = Account(event.user, event.group, event.tier)
        state.sessions[event.session] = Session(event.session, event.name, account)
        return
    session.name = event.name
    user = session.user or event.user
    state.queue.change_account(session, Account(user, event.group, event.tier))
    review(state, user)
    session.connected, session.closed, session.lost_at = True, False, None
    state.queue.refresh(session)
    _withdraw_others(state, session, event.requests, now)
    if session.lease is not None and session.lease.granted_at is not None:
        state.out.granted(session.lease)
    for request in state.queue.of_session(session.id):
        state.queue.tell_again(request)


def _withdraw_others(
    state: SchedulerState, session: Session, wanted: tuple[str, ...], now: float
) -> None:
    """Withdraws what a notebook that comes back does not want any more."""
    for request in state.queue.of_session(session.id):
        if request.id not in wanted:
            state.queue.remove(request)
    lease = session.lease
    # A task that began ends by itself: it is finished, or its notebook has let go of it.
    if lease is not None and lease.request.id not in wanted and lease.started_at is None:
        release(state, lease, now)


def lost(state: SchedulerState, event: SessionLost, now: float) -> None:
    """A notebook does not answer; it has its grace time to come back."""
    session = state.sessions.get(event.session)
    if session is None or not session.connected:
        return
    session.connected, session.lost_at = False, now
    state.queue.refresh(session)
    state.watch(session)
    if not state.policy.kernel_grace_seconds:
        close(state, session, now)


def closed(state: SchedulerState, event: SessionClosed, now: float) -> None:
    """A notebook is over."""
    if session := state.sessions.get(event.session):
        session.connected = False
        close(state, session, now)


def close(state: SchedulerState, session: Session, now: float) -> None:
    """Ends all that a session has; it is forgotten once its worker is gone."""
    session.closed, session.lost_at = True, None
    state.watch(session)
    for request in state.queue.of_session(session.id):
        state.queue.remove(request)
    if session.lease is not None:
        state.cut_short(session.lease, Cause.KERNEL_LOST, now)
    if session.worker is not None:
        state.stop(session, Cause.KERNEL_LOST, now)
    state.forget_if_over(session)
