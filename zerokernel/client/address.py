"""Where an embedded broker is: the address file, for its owner's eyes only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from zerokernel.errors import BrokerUnavailable
from zerokernel.settings import Settings


@dataclass(frozen=True)
class BrokerAddress:
    """How to reach a broker.

    Attributes:
        url: "http://HOST:PORT".
        token: Allows everything that its owner may do.
        pid: The broker's process, 0 where it is on another host.
        protocol: PROTOCOL_VERSION of the broker.
        version: Its zerokernel version.
        python: Its interpreter.
        ca_file: PEM file with the authority of its certificate; "" trusts what the system does.
    """

    url: str
    token: str
    pid: int
    protocol: int
    version: str
    python: str
    ca_file: str = ""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How its certificate is checked; None where it has none. Raises BrokerUnavailable."""
        if not self.url.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ValueError) as error:
            raise BrokerUnavailable(
                f"The certificates in {self.ca_file} cannot be used: {error}"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def __repr__(self) -> str:
        # The token does not belong into logs.
        return f"BrokerAddress({self.url!r}, process {self.pid}, zerokernel {self.version})"


def boot_id() -> str:
    """Gives what tells this run of the machine from the last one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_namespace() -> str:
    """Gives what tells the processes of this boot and PID namespace from all others."""
    return f"{boot_id()} {os.readlink('/proc/self/ns/pid')}"


def address_file(settings: Settings) -> Path:
    """Gives the path of the address file of this machine and boot."""
    return settings.runtime_directory / f"broker-{boot_id()}.json"


def prepare_directory(directory: Path) -> None:
    """Makes the runtime directory, which nobody else may enter.

    Raises:
        BrokerUnavailable: It is a link, another user's, or open to others.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        status = directory.lstat()
    except OSError as error:
        raise BrokerUnavailable(
            f"The runtime directory {directory} cannot be made: {error}"
        ) from error
    if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
        problem = "is a link or no directory; remove it"
    elif status.st_uid != os.getuid():
        problem = "belongs to another user; set ZEROKERNEL_RUNTIME_DIRECTORY to one of your own"
    elif stat.S_IMODE(status.st_mode) & 0o077:
        problem = f"is open to other users; run `chmod 700 {directory}`"
    else:
        return
    raise BrokerUnavailable(f"The runtime directory {directory} {problem}.")


def write_address(path: Path, address: BrokerAddress) -> None:
    """Writes the file whole, so that nobody reads half of it.

    One broker at a time does so. What one left that was killed here, the next one removes.
    """
    temporary = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(address), file)
    temporary.rename(path)


def read_address(path: Path) -> BrokerAddress | None:
    """Gives the address, None where there is no file or it is not a broker's.

    Raises:
        BrokerUnavailable: The file is a link, another user's, or open to others: its token
            may be known, or the broker somebody else's.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
            _check_private(path, os.fstat(file.fileno()))
            return _parse(file.read(65536))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokerUnavailable(f"The address file {path} cannot be read: {error}") from error


def remove_address(path: Path, pid: int) -> None:
    """Removes the file if it is still this broker's."""
    with contextlib.suppress(OSError, BrokerUnavailable):
        known = read_address(path)
        if known is not None and known.pid == pid:
            path.unlink()


def _check_private(path: Path, status: os.stat_result) -> None:
    private = status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o077
    if not (private and stat.S_ISREG(status.st_mode)):
        raise BrokerUnavailable(
            f"The address file {path} is not yours alone, so it is not trusted. Remove it, end "
            "the broker that wrote it, and run the cell again."
        )


def _parse(text: str) -> BrokerAddress | None:
    try:
        body = json.loads(text)
        fields = [one for one in dataclasses.fields(BrokerAddress) if one.name != "ca_file"]
        values = {field.name: body[field.name] for field in fields}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    kinds = {"pid": int, "protocol": int}
    if not all(isinstance(v, kinds.get(name, str)) for name, v in values.items()):
        return None
    return BrokerAddress(**values)
