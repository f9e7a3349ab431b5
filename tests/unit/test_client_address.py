"""The address file's content, and what refusals become: without sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerokernel import errors
from zerokernel.client import BrokerAddress, refusal
from zerokernel.client.address import address_file, read_address, remove_address, write_address
from zerokernel.client.interpreter import last_lines, with_package
from zerokernel.messages import Refused
from zerokernel.settings import Settings

ADDRESS = BrokerAddress("http://127.0.0.1:80", "secret", 42, 1, "0.1.0", "python")


def test_an_address_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Also over an earlier one; nothing else is left in the directory."""
    file = tmp_path / "broker.json"
    write_address(file, BrokerAddress("http://127.0.0.1:81", "old", 41, 1, "0", "p"))
    write_address(file, ADDRESS)
    assert read_address(file) == ADDRESS
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_writer_left_that_was_killed_is_gone_after_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes then."""
    monkeypatch.setattr(Path, "rename", lambda self, target: None)
    write_address(tmp_path / "broker.json", ADDRESS)
    assert list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr("os.getpid", lambda: 999_999)
    write_address(tmp_path / "broker.json", ADDRESS)
    assert list(tmp_path.iterdir()) == [tmp_path / "broker.json"]


def test_the_token_is_in_no_repr() -> None:
    """A log or a traceback may show an address."""
    assert "secret" not in f"{ADDRESS} {ADDRESS!r}"


def test_the_address_file_is_of_this_boot(tmp_path: Path) -> None:
    """After a reboot the old file has another name."""
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in str(
        address_file(Settings(tmp_path))
    )


@pytest.mark.parametrize(
    "content",
    ["", "{}", "7", '"x"', "[" * 5000, '{"url": "u", "token": "t", "pid": "1"}', "\x00"],
)
def test_what_is_no_address_is_none(tmp_path: Path, content: str) -> None:
    """Whatever is in the file."""
    file = tmp_path / "broker.json"
    file.write_text(content)
    file.chmod(0o600)
    assert read_address(file) is None


def test_only_the_own_file_is_removed(tmp_path: Path) -> None:
    """A broker that ends late does not take away its successor's."""
    file = tmp_path / "broker.json"
    write_address(file, ADDRESS)
    remove_address(file, 41)
    assert file.exists()
    remove_address(file, 42)
    assert not file.exists()
    remove_address(file, 42)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("BadDuration", errors.BadDuration),
        ("UnknownSize", errors.UnknownSize),
        ("RequestCancelled", errors.RequestCancelled),
        ("annotations", errors.RequestRefused),
        ("inspect", errors.RequestRefused),
        ("", errors.RequestRefused),
    ],
)
def test_a_refusal_is_the_error_that_its_code_names(code: str, kind: type[Exception]) -> None:
    """A code that names no error of ours is a plain refusal."""
    error = refusal(Refused("r1", code, "because"))
    assert type(error) is kind
    assert str(error) == "because"


def test_a_log_is_shown_from_its_end(tmp_path: Path) -> None:
    """The last lines, whatever bytes are in it; nothing where there is no log."""
    log = tmp_path / "log"
    log.write_bytes(b"first\n" * 10_000 + b"\xff\nlast\n")
    assert last_lines(log, 2) == "\N{REPLACEMENT CHARACTER}\nlast"
    assert last_lines(tmp_path / "none") == ""


def test_the_package_is_found_by_a_new_interpreter() -> None:
    """What PYTHONPATH had stays first; nothing is added twice."""
    once = with_package({"PYTHONPATH": "/mine", "HOME": "/h"})
    assert once["PYTHONPATH"].startswith("/mine")
    assert once["HOME"] == "/h"
    assert with_package(once) == once
