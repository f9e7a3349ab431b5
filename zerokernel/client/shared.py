"""The broker that somebody else runs: found by its address, never started from here."""

from __future__ import annotations

import dataclasses
import os
import time

from zerokernel.client.address import BrokerAddress
from zerokernel.client.rest import fetch_status
from zerokernel.errors import BrokerUnavailable, TokenRefused
from zerokernel.messages import check_protocol
from zerokernel.settings import Settings, broker_token

_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.1


def find_shared(settings: Settings) -> BrokerAddress:
    """Gives the shared broker that the settings name.

    Raises:
        BrokerUnavailable: It does not answer.
        TokenRefused: It does not know this person's token.
        BadSetting: There is no token, or others can read it.
        ProtocolMismatch: It is of another version.
    """
    url = settings.broker_url.rstrip("/")
    authority = os.path.expanduser(settings.broker_ca_file)
    address = BrokerAddress(url, broker_token(settings), 0, 0, "", "", authority)
    try:
        status = fetch_status(address, _ANSWER_SECONDS)
    except TokenRefused:
        raise
    except BrokerUnavailable as error:
        raise BrokerUnavailable(
            f"{str(error).rstrip('.')}. Several people share it, and it is not started from here: "
            "ask its administrator. `%%gpu --cpu` runs the cell in the notebook."
        ) from error
    protocol, version = status.get("protocol"), status.get("version")
    if not isinstance(protocol, int):
        raise BrokerUnavailable(f"What answers at {url} is no broker.")
    check_protocol(protocol)
    return dataclasses.replace(address, protocol=protocol, version=str(version))


def wait_for_shared(settings: Settings) -> None:
    """Waits until the shared broker answers again, as long as a kernel waits for a start.

    Raises:
        ZeroKernelError: As `find_shared`, when that time is over; at once where it answers and
            will not have us.
    """
    until = time.monotonic() + settings.broker_start_seconds
    while True:
        try:
            find_shared(settings)
            return
        except TokenRefused:
            raise
        except BrokerUnavailable:
            if time.monotonic() >= until:
                raise
            time.sleep(_POLL_SECONDS)
