"""The books: what was reserved and what was used, in integer milliseconds."""

from zerokernel.broker.ledger.memory import MemoryLedger
from zerokernel.broker.ledger.port import Entry, Ledger, Usage

__all__ = ["Entry", "Ledger", "MemoryLedger", "Usage"]
