"""Speaks to a broker: finds or starts it, opens a session, asks for leases."""

from zerokernel.client.address import BrokerAddress, process_namespace
from zerokernel.client.closing import CloseCode
from zerokernel.client.connection import BrokerClient, refusal
from zerokernel.client.rest import fetch_status
from zerokernel.client.shared import wait_for_shared
from zerokernel.client.start import ensure_broker, find_broker, replace_hung_broker

__all__ = [
    "BrokerAddress",
    "BrokerClient",
    "CloseCode",
    "ensure_broker",
    "fetch_status",
    "find_broker",
    "process_namespace",
    "refusal",
    "replace_hung_broker",
    "wait_for_shared",
]
