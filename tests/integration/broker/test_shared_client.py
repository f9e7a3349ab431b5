"""A client and a shared broker: by address and token, over TLS, and when it is away."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared_broker import make_certificate
from zerokernel.broker.service.tls import server_context
from zerokernel.client import BrokerAddress, BrokerClient, ensure_broker, find_broker
from zerokernel.client.rest import fetch_status
from zerokernel.client.shared import wait_for_shared
from zerokernel.errors import BrokerUnavailable, TokenRefused
from zerokernel.messages import OpenSession
from zerokernel.settings import Settings
from zerokernel.testing import InProcessBroker


@pytest.fixture(scope="module")
def broker() -> Iterator[InProcessBroker]:
    with InProcessBroker() as running:
        yield running


@pytest.fixture
def settings(broker: InProcessBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ZEROKERNEL_BROKER_TOKEN", broker.address.token)
    return Settings(tmp_path / "rt", broker_url=broker.url + "/")


def test_it_is_found_and_none_is_started(broker: InProcessBroker, settings: Settings) -> None:
    """The address has no process, for it may be anywhere."""
    found = ensure_broker(settings)
    assert found == find_broker(settings)
    assert (found.url, found.pid, found.protocol) == (broker.url, 0, broker.address.protocol)
    assert not list(settings.runtime_directory.iterdir())


def test_a_wrong_token(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and what to do; it is not waited for that it becomes right."""
    monkeypatch.setenv("ZEROKERNEL_BROKER_TOKEN", "zk_wrong")
    for ask in (ensure_broker, wait_for_shared):
        with pytest.raises(TokenRefused, match=r"expired.*administrator") as error:
            ask(settings)
        assert "zk_wrong" not in str(error.value)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_one_that_is_away(settings: Settings) -> None:
    """The error says so, names whom to ask, and starts none in its place."""
    away = dataclasses.replace(settings, broker_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailable, match=r"administrator.*--cpu"):
        ensure_broker(away)
    assert not list(settings.runtime_directory.iterdir())


def test_one_that_comes_back_is_waited_for(settings: Settings) -> None:
    """As long as a kernel waits for a start, and no longer."""
    port = free_port()
    away = dataclasses.replace(
        settings, broker_url=f"http://127.0.0.1:{port}", broker_start_seconds=0.3
    )
    with pytest.raises(BrokerUnavailable):
        wait_for_shared(away)
    patient = dataclasses.replace(away, broker_start_seconds=30.0)
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (wait_for_shared(patient), done.set()))
    waiting.start()
    with InProcessBroker(port=port, token=os.environ["ZEROKERNEL_BROKER_TOKEN"]) as back:
        assert done.wait(20)
        assert back.url.endswith(str(port))
    waiting.join()


def test_what_is_no_broker(settings: Settings) -> None:
    """A web server of another kind is not believed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        other = dataclasses.replace(settings, broker_url=f"http://127.0.0.1:{port}")
        with pytest.raises(BrokerUnavailable, match="is no broker"):
            find_broker(other)
        thread.join()


# --- TLS ------------------------------------------------------------------------------------

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def tls_broker(certificates: Path) -> Iterator[InProcessBroker]:
    context = server_context(str(certificates / "certificate.pem"), str(certificates / "key.pem"))
    with InProcessBroker(tls=context) as running:
        yield running


def over_tls(broker: InProcessBroker, authority: str) -> BrokerAddress:
    return dataclasses.replace(broker.address, ca_file=authority)


@needs_openssl
def test_rest_and_events_over_tls(tls_broker: InProcessBroker, certificates: Path) -> None:
    """With the authority that the setting names."""
    address = over_tls(tls_broker, str(certificates / "certificate.pem"))
    assert address.url.startswith("https://")
    assert fetch_status(address)["slices"]
    client = BrokerClient(address, OpenSession("0" * 32, "t", "python", {}))
    client.connect(10)
    client.close()


@needs_openssl
def test_a_certificate_of_an_unknown_authority(tls_broker: InProcessBroker) -> None:
    """It is not talked to: no token is sent."""
    address = over_tls(tls_broker, "")
    with pytest.raises(BrokerUnavailable, match=r"not trusted: self.signed.*broker_ca_file"):
        fetch_status(address)
    client = BrokerClient(address, OpenSession("0" * 32, "t", "python", {}))
    with pytest.raises(BrokerUnavailable, match=r"not trusted: self.signed.*broker_ca_file"):
        client.connect(10)
    client.close()


@needs_openssl
def test_a_certificate_of_another_host(tmp_path: Path) -> None:
    """Of a trusted authority, and yet not for this address."""
    make_certificate(tmp_path, "DNS:gpu.example.org")
    certificate, key = _pair(tmp_path)
    with (
        InProcessBroker(tls=server_context(certificate, key)) as broker,
        pytest.raises(BrokerUnavailable, match=r"not trusted: IP address mismatch"),
    ):
        fetch_status(over_tls(broker, certificate))


@needs_openssl
def test_old_versions_of_tls_are_not_spoken(
    tls_broker: InProcessBroker, certificates: Path
) -> None:
    """Neither by the broker nor by a client."""
    assert server_context(*_pair(certificates)).minimum_version == ssl.TLSVersion.TLSv1_2
    client = over_tls(tls_broker, str(certificates / "certificate.pem")).tls
    assert client is not None
    assert client.minimum_version == ssl.TLSVersion.TLSv1_2


def _pair(folder: Path) -> tuple[str, str]:
    return str(folder / "certificate.pem"), str(folder / "key.pem")


@needs_openssl
def test_certificates_that_cannot_be_used(certificates: Path, tmp_path: Path) -> None:
    """Absent, no PEM, or a key that everybody may read: each says which file."""
    certificate, key = _pair(certificates)
    with pytest.raises(BrokerUnavailable, match="nowhere"):
        server_context("nowhere", key)
    (tmp_path / "bad.pem").write_text("x")
    (tmp_path / "bad.pem").chmod(0o600)
    with pytest.raises(BrokerUnavailable, match=r"bad\.pem"):
        server_context(certificate, str(tmp_path / "bad.pem"))
    shutil.copy(key, tmp_path / "open.pem")
    (tmp_path / "open.pem").chmod(0o644)
    with pytest.raises(BrokerUnavailable, match="chmod o="):
        server_context(certificate, str(tmp_path / "open.pem"))
    with pytest.raises(BrokerUnavailable, match="nowhere"):
        _ = BrokerAddress("https://x", "", 0, 1, "", "", "nowhere").tls


def test_the_url_of_an_address_with_colons() -> None:
    """IPv6 is bracketed."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with InProcessBroker(host="::1") as broker:
        assert broker.url.startswith("http://[::1]:")
        assert fetch_status(broker.address)["slices"]
