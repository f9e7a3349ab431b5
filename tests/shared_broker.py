"""A shared broker for tests: a real process by a configuration file, with its users."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.kernels import ROOT, wait_until
from zerokernel.broker.identity import User
from zerokernel.broker.service import read_service
from zerokernel.broker.users import UserFile, add
from zerokernel.client import BrokerAddress
from zerokernel.messages import PROTOCOL_VERSION
from zerokernel.settings import Settings

_SERVES = re.compile(r"serves at (\S+):(\d+)$", re.MULTILINE)


class SharedBroker:
    """One slice, SQLite books, files in a folder of its own.

    Args:
        tls: Whether it serves https, with a certificate made for it.
        more: Lines for the table [broker].
        policy: Lines for the table [policy].
        users: Who may use it.
    """

    def __init__(
        self,
        users: tuple[User, ...],
        tls: bool = False,
        grace: float = 30.0,
        more: str = "",
        policy: str = "",
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="zk-"))
        self._tls, self._grace, self._more, self._port = tls, grace, more, 0
        self._policy = policy
        if tls:
            make_certificate(self.directory)
        self._write()
        service = read_service(self.config)
        self.file = UserFile(service.users_file)
        self.file.path.parent.mkdir(mode=0o700)
        self.tokens = {user.name: add(self.file, user, service.policy.tiers) for user in users}
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.directory / "broker.toml"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def _write(self) -> None:
        tls = '[tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n' if self._tls else ""
        self.config.write_text(
            f'[broker]\nport = {self._port}\nruntime_directory = "run"\n'
            f'state_directory = "state"\nshutdown_grace_seconds = {self._grace}\n{self._more}\n'
            f'{tls}[policy]\n{self._policy}\n[slices]\ndevices = "simulated"\n'
            "[workers]\npark_seconds = 300\n"
        )

    def start(self) -> None:
        """Starts it and waits until it serves, at the same port each time; one is enough."""
        if self.process is not None and self.process.poll() is None:
            return
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zerokernel.cli", "broker", "--config", str(self.config)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        found = wait_until(self._serves, "the broker", 30)
        self.url, self._port = f"{found[1]}:{found[2]}", int(found[2])
        self._write()

    def _serves(self) -> re.Match[str] | None:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return _SERVES.search(self.log)

    def end(self, number: signal.Signals, timeout: float = 30) -> int:
        """Sends it a signal and gives its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def close(self) -> None:
        """Ends it if it runs; checks that it leaves no supervisor and no socket."""
        with contextlib.suppress(ProcessLookupError):
            if self.process is not None and self.process.poll() is None:
                self.end(signal.SIGTERM)
        run = self.directory / "run"
        left = [one.name for one in run.iterdir() if one.suffix in (".sock", ".process")]
        assert not left + [str(one) for one in self.supervisors()], self.log
        shutil.rmtree(self.directory)

    def supervisors(self) -> list[psutil.Process]:
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if one.cwd() == str(self.directory / "run"):
                    found.append(one)
        return found

    def environment(self, user: str) -> dict[str, str]:
        """What a notebook of that user's has to have."""
        home = self.directory / user
        home.mkdir(exist_ok=True)
        return {
            "ZEROKERNEL_BROKER_URL": self.url,
            "ZEROKERNEL_BROKER_TOKEN": self.tokens[user],
            "ZEROKERNEL_BROKER_CA_FILE": self.authority,
            "ZEROKERNEL_RUNTIME_DIRECTORY": str(home / "rt"),
            "ZEROKERNEL_BROKER_START_SECONDS": "20",
        }

    @property
    def authority(self) -> str:
        return str(self.directory / "certificate.pem") if self._tls else ""

    def settings(self, user: str, **changes: object) -> Settings:
        """The same for a client in the test's process."""
        return Settings(self.directory / user / "rt", broker_url=self.url, **changes)  # type: ignore[arg-type]

    def address(self, user: str) -> BrokerAddress:
        token = self.tokens[user]
        return BrokerAddress(self.url, token, 0, PROTOCOL_VERSION, "", "", self.authority)


def make_certificate(directory: Path, names: str = "IP:127.0.0.1,DNS:localhost") -> None:
    """Makes a certificate that is its own authority, and its key."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", f"subjectAltName={names}"),
            *("-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    (directory / "key.pem").chmod(0o600)
