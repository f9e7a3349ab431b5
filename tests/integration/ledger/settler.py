"""Books leases without end and prints each once it is written; run by a test that kills it."""

from __future__ import annotations

import itertools
import sys

from zerokernel.broker.ledger import Beat
from zerokernel.broker.ledger.sql import SqlLedger

ledger, run = SqlLedger(sys.argv[1]), sys.argv[2]
for number in itertools.count():
    lease = f"{run}-{number}"
    ledger.reserve("ada", lease, 60_000, 1_800_000_000.0)
    print("reserved", lease, flush=True)
    ledger.heartbeat({lease: Beat(1_000 + number, 2_000)})
    if number % 5 == 4:
        continue  # left open, as the one that is under way when the kill comes
    ledger.settle("ada", lease, 7, 11)
    print("settled", lease, flush=True)
    if number % 7 == 0:
        ledger.refund("ada", lease)
        print("refunded", lease, flush=True)
