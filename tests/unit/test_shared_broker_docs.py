"""What docs/sharing-a-broker.md tells an administrator to write and type is right."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest

from zerokernel import cli
from zerokernel.broker.service import Service, read_service
from zerokernel.broker.service.schema import WHOLE_TABLES, tables

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sharing-a-broker.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def read(tmp_path: Path, text: str) -> Service:
    path = tmp_path / "broker.toml"
    path.write_text(text)
    return read_service(path)


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_each_configuration_is_understood(tmp_path: Path, number: int) -> None:
    """Whole, as it stands there."""
    assert read(tmp_path, blocks("toml")[number]).reach.port == 8470


def test_the_commands_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of `zerokernel user` and the check, in their order, on the configuration there."""
    monkeypatch.setenv("ZEROKERNEL_CONFIG", str(tmp_path / "none"))
    config = tmp_path / "broker.toml"
    sample = blocks("toml")[0]
    config.write_text(sample.replace("[broker]", '[broker]\nstate_directory = "state"', 1))
    (tmp_path / "state").mkdir()
    lines = [line for block in blocks("shell") for line in block.splitlines()]
    typed = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("zerok")]
    assert len(typed) == 7
    for words in typed:
        kept = [word for word in words if word != "--shared"]
        assert cli.main([*kept, "--config", str(config)]) == 0, words
    capsys.readouterr()
    assert cli.main(["user", "list", "--config", str(config)]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == ["user", "ada", "eve"]


def test_the_unit_goes_with_the_configuration(tmp_path: Path) -> None:
    """Its directories are the defaults, and it waits longer for the end than running cells may."""
    unit = configparser.ConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(blocks("ini")[0])
    service, reach = unit["Service"], read(tmp_path, blocks("toml")[0]).reach
    assert int(service["TimeoutStopSec"]) > reach.shutdown_grace_seconds
    assert service["KillMode"] == "process", "else the cells end with the broker"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    settings = read(tmp_path, "").settings
    assert Path("/run", service["RuntimeDirectory"]) == settings.runtime_directory
    assert Path("/var/lib", service["StateDirectory"]) == read(tmp_path, "").reach.state_directory
    assert service["ExecStart"].endswith("/zerokernel broker --shared")


def test_the_table_has_exactly_the_keys_there_are() -> None:
    """Each table of the file with its keys, and no other."""
    rows = dict(re.findall(r"^\| `\[(\w+)\]`[^|]* \| (.+) \|$", PAGE, re.MULTILINE))
    known = {**tables(), **{name: {} for name in WHOLE_TABLES}}
    assert rows.keys() | {"sizes"} == known.keys()
    for table, keys in known.items():
        told = set(re.findall(r"`([a-z_]+)`", rows.get(table, "")))
        assert told == set(keys), table
