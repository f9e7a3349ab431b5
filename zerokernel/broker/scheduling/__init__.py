"""The scheduler: a pure state machine. Events and the time in, actions out."""

from zerokernel.broker.scheduling.actions import (
    Action,
    Beats,
    Clean,
    Extend,
    Order,
    Reserve,
    Settle,
    Tell,
)
from zerokernel.broker.scheduling.allowance import summary
from zerokernel.broker.scheduling.events import (
    BalanceTold,
    BooksClosed,
    BrokerBegan,
    Event,
    LeaseBooked,
    NotebookSaid,
    SessionClosed,
    SessionConnected,
    SessionLost,
    SliceCleaned,
    SlicesChanged,
    SliceSetAside,
    Tick,
    WorkerAdopted,
)
from zerokernel.broker.scheduling.policy import OVER_QUOTA, QUOTAS, Policy
from zerokernel.broker.scheduling.quota import Balance
from zerokernel.broker.scheduling.records import Account, Slice
from zerokernel.broker.scheduling.snapshot import snapshot
from zerokernel.broker.scheduling.state import SchedulerState

__all__ = [
    "OVER_QUOTA",
    "QUOTAS",
    "Account",
    "Action",
    "Balance",
    "BalanceTold",
    "Beats",
    "BooksClosed",
    "BrokerBegan",
    "Clean",
    "Event",
    "Extend",
    "LeaseBooked",
    "NotebookSaid",
    "Order",
    "Policy",
    "Reserve",
    "SchedulerState",
    "SessionClosed",
    "SessionConnected",
    "SessionLost",
    "Settle",
    "Slice",
    "SliceCleaned",
    "SliceSetAside",
    "SlicesChanged",
    "Tell",
    "Tick",
    "WorkerAdopted",
    "snapshot",
    "summary",
]
