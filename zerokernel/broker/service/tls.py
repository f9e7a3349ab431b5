"""TLS of a shared broker."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from zerokernel.errors import BrokerUnavailable


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Gives what https is served by: TLS 1.2 or later.

    Args:
        certificate: PEM file with the certificate and those that it depends on.
        key: PEM file with its key.

    Raises:
        BrokerUnavailable: One cannot be read, they do not belong together, or everybody may
            read the key.
    """
    try:
        mode = stat.S_IMODE(Path(key).stat().st_mode)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BrokerUnavailable(
            f"The certificate {certificate} and its key {key} cannot be used: {error}"
        ) from error
    if mode & stat.S_IRWXO:
        raise BrokerUnavailable(f"Everybody may read the key {key}. Run `chmod o= {key}`.")
    return context


def _no_password() -> str:
    raise ValueError("the key has a passphrase, which a service cannot be asked for")
