"""`zerokernel user` and `zerokernel broker --check`, as an administrator types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerokernel import cli
from zerokernel.broker.identity import User
from zerokernel.broker.users import FileIdentity, UserFile
from zerokernel.cli.users import expiry
from zerokernel.errors import BadUser
from zerokernel.testing import FakeClock


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROKERNEL_CONFIG", str(tmp_path / "none"))
    path = tmp_path / "broker.toml"
    path.write_text('[users]\nfile = "users"\n[policy.tiers]\nstudent = 1\nstaff = 2\n')
    return path


class Shell:
    """Types commands and reads what they print."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self._capsys = config, capsys

    def types(self, *words: str, status: int = 0) -> tuple[str, str]:
        assert cli.main([*words, "--config", str(self.config)]) == status
        said = self._capsys.readouterr()
        return said.out, said.err


@pytest.fixture
def shell(config: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(config, capsys)


def test_from_adding_to_removing(shell: Shell, config: Path) -> None:
    """The token alone is on standard output; each command does what it says at once."""
    out, err = shell.types("user", "add", "ada", "--tier", "staff", "--group", "lab", "--admin")
    assert "this once" in err
    identity = FileIdentity(UserFile(config.parent / "users"))
    assert identity.of_token(out.strip()) == User("ada", "staff", "lab", admin=True)
    listed, _ = shell.types("user", "list")
    assert " ".join(listed.splitlines()[1].split()) == "ada staff lab yes does not expire"
    newer, _ = shell.types("user", "token", "ada", "--expires", "30d")
    assert identity.of_token(out.strip()) is None
    assert identity.of_token(newer.strip()) is not None
    assert "until 2" in shell.types("user", "list")[0]
    assert "removed" in shell.types("user", "remove", "ada")[0]
    assert identity.of_token(newer.strip()) is None
    assert "no users" in shell.types("user", "list")[0]


def test_mistakes_are_said_in_a_line(shell: Shell, config: Path) -> None:
    """On standard error, with status 1, and nothing is changed."""
    said = shell.types("user", "add", "ada", "--tier", "pro", status=1)[1]
    assert said == "zerokernel: There is no tier 'pro'; there are student, staff.\n"
    assert "'soon'" in shell.types("user", "add", "ada", "--expires", "soon", status=1)[1]
    assert "no user" in shell.types("user", "remove", "ada", status=1)[1]
    assert not (config.parent / "users").exists() or not (config.parent / "users").read_text()
    config.write_text("[brokr]\n")
    said = shell.types("user", "list", status=1)[1]
    assert f"{config}, line 1: [brokr]" in said


def test_a_configuration_can_be_checked(shell: Shell, config: Path) -> None:
    """Without starting anything."""
    assert "http on 127.0.0.1, port 8470" in shell.types("broker", "--check")[0]
    config.write_text("[broker]\nport = 'x'\n")
    assert "line 2" in shell.types("broker", "--check", status=1)[1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), ("1y", 31_536_000)],
)
def test_times_of_expiry(text: str, seconds: float) -> None:
    """From now on."""
    assert expiry(text, FakeClock().now) == FakeClock().now + seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "0d", "1.5d", "101y", "1d 2h"])
def test_what_is_no_time_of_expiry(text: str) -> None:
    """The error gives examples."""
    with pytest.raises(BadUser, match="30d"):
        expiry(text, 0.0)


def test_none_is_no_expiry() -> None:
    """A token then ends only by a new one."""
    assert expiry(None, 5.0) is None
