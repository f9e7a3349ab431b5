"""How a notebook is told of a shared broker, and of its person's token."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerokernel.settings import BadSetting, Settings, as_environment, broker_token, load


@pytest.mark.parametrize(
    "url",
    [
        "https://gpu.example.org",
        "https://gpu.example.org:8470/",
        "https://[2001:db8::1]:8470",
        "http://127.0.0.1:8470",
        "http://[::1]:8470",
        "http://localhost:8470",
    ],
)
def test_urls_of_a_broker(url: str) -> None:
    """With TLS anywhere, without on this machine."""
    assert load({"ZEROKERNEL_BROKER_URL": url}).broker_url == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://gpu.example.org:8470", "in the clear"),
        ("http://10.0.0.1:8470", "in the clear"),
        ("gpu.example.org:8470", "https://HOST:PORT"),
        ("ftp://gpu.example.org", "https://HOST:PORT"),
        ("https://", "https://HOST:PORT"),
        ("https://ada:token@gpu.example.org", "https://HOST:PORT"),
        ("https://gpu.example.org/hub", "https://HOST:PORT"),
        ("https://gpu.example.org:99999", "https://HOST:PORT"),
        ("https://[::1", "https://HOST:PORT"),
    ],
)
def test_what_is_no_url_of_a_broker(url: str, why: str) -> None:
    """The error says what it can be."""
    with pytest.raises(BadSetting, match=why):
        load({"ZEROKERNEL_BROKER_URL": url})


def test_the_variable_comes_before_the_file(tmp_path: Path) -> None:
    """The file is in the person's configuration unless a setting names another."""
    settings = Settings(tmp_path, broker_url="https://gpu.example.org")
    usual = tmp_path / "zerokernel" / "token"
    usual.parent.mkdir()
    usual.write_text("usual\n")
    usual.chmod(0o600)
    other = tmp_path / "other"
    other.write_text("other")
    other.chmod(0o400)
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert broker_token(settings, home) == "usual"
    assert broker_token(settings, {**home, "ZEROKERNEL_BROKER_TOKEN": " direct "}) == "direct"
    named = Settings(tmp_path, broker_url=settings.broker_url, broker_token_file=str(other))
    assert broker_token(named, home) == "other"


def test_without_a_token_it_is_said_where_it_goes(tmp_path: Path) -> None:
    """Also where the file is empty."""
    settings = Settings(tmp_path, broker_url="https://gpu.example.org")
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    with pytest.raises(BadSetting, match=r"administrator.*0600.*ZEROKERNEL_BROKER_TOKEN"):
        broker_token(settings, home)
    file = tmp_path / "zerokernel" / "token"
    file.parent.mkdir()
    file.touch(mode=0o600)
    with pytest.raises(BadSetting, match="is empty"):
        broker_token(settings, home)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """It says what to do."""
    file = tmp_path / "token"
    file.write_text("zk_x")
    file.chmod(mode)
    settings = Settings(tmp_path, broker_token_file=str(file))
    with pytest.raises(BadSetting, match=f"chmod 600 {file}") as error:
        broker_token(settings, {})
    assert "zk_x" not in str(error.value)


def test_a_token_is_no_setting() -> None:
    """Settings are handed on to other processes and shown; a token must be in none of them."""
    settings = load({"ZEROKERNEL_BROKER_TOKEN": "zk_secret"})
    assert "zk_secret" not in repr(settings)
    assert "zk_secret" not in str(as_environment(settings))
