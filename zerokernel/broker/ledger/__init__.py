"""The books: what was reserved and what was used, in integer milliseconds.

`SqlLedger` is not named here: it needs the extra `broker`, and `make_ledger` finds it.
"""

from zerokernel.broker.ledger.choice import make_ledger
from zerokernel.broker.ledger.memory import MemoryLedger
from zerokernel.broker.ledger.patient import PatientLedger
from zerokernel.broker.ledger.port import Beat, Entry, Ledger, Usage, Window

__all__ = [
    "Beat",
    "Entry",
    "Ledger",
    "MemoryLedger",
    "PatientLedger",
    "Usage",
    "Window",
    "make_ledger",
]
