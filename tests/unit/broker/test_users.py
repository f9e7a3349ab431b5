"""Users and tokens: who gets in, and what is refused to be believed."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from zerokernel.broker.identity import User
from zerokernel.broker.users import FileIdentity, UserFile, add, digest, new_token, remove
from zerokernel.errors import BadUser, UsersUnavailable
from zerokernel.testing import FakeClock

TIERS = ("free", "pro")


@pytest.fixture
def file(tmp_path: Path) -> UserFile:
    return UserFile(tmp_path / "users.jsonl")


def test_a_user_is_known_by_the_token_that_was_given_once(file: UserFile) -> None:
    """The token says who it is, with tier and group; the file has only its digest."""
    token = add(file, User("ada", "pro", "lab", admin=True), TIERS)
    other = add(file, User("bob"), TIERS)
    identity = FileIdentity(file)
    assert identity.of_token(token) == User("ada", "pro", "lab", admin=True)
    assert identity.of_token(other) == User("bob")
    assert identity.named("bob") == User("bob")
    assert token not in file.path.read_text()
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("token", ["", "zk_", "zk_" + "A" * 43, "\udcff\udc80", "x" * 100_000])
def test_any_other_token_is_nobodys(file: UserFile, token: str) -> None:
    """Whatever bytes a header has, nothing is raised; nor does a digest do for its token."""
    add(file, User("ada"), TIERS)
    identity = FileIdentity(file)
    assert identity.of_token(token) is None
    assert identity.of_token(file.read()["ada"].token) is None


def test_tokens_are_long_and_each_another(file: UserFile) -> None:
    """256 bits of them are random, which is why a fast digest does."""
    tokens = {add(file, User(f"user{n}"), TIERS) for n in range(20)}
    assert len(tokens) == 20
    assert all(len(one) == len("zk_") + 43 for one in tokens)


def test_what_changes_in_the_file_counts_at_once(file: UserFile) -> None:
    """A new user gets in, a new token ends the old one, a removed user stays out."""
    identity = FileIdentity(file)
    token = add(file, User("ada"), TIERS)
    assert identity.of_token(token) == User("ada")
    newer = new_token(file, "ada")
    assert identity.of_token(token) is None
    assert identity.of_token(newer) == User("ada")
    remove(file, "ada")
    assert identity.of_token(newer) is None
    assert identity.named("ada") is None


def test_a_token_expires(file: UserFile) -> None:
    """To the second, by the clock; the user is still known by name."""
    clock = FakeClock()
    token = add(file, User("ada"), TIERS, expires=clock.now + 10)
    identity = FileIdentity(file, clock=clock)
    clock.advance(9)
    assert identity.of_token(token) == User("ada")
    clock.advance(1)
    assert identity.of_token(token) is None
    assert identity.named("ada") == User("ada")
    assert FileIdentity(file, clock=clock).of_token(new_token(file, "ada")) == User("ada")


def test_an_unknown_tier_is_named_with_those_there_are(file: UserFile) -> None:
    """Nobody is added."""
    with pytest.raises(BadUser, match=r"'gold'.*free, pro"):
        add(file, User("ada", "gold"), TIERS)
    assert not file.read()


def test_the_same_name_twice_and_an_unknown_one(file: UserFile) -> None:
    """Both say what to do; the first user's token stays."""
    token = add(file, User("ada"), TIERS)
    with pytest.raises(BadUser, match="user token ada"):
        add(file, User("ada", "pro"), TIERS)
    with pytest.raises(BadUser, match="'ada' meant"):
        remove(file, "adda")
    with pytest.raises(BadUser, match="no user"):
        new_token(file, "zoe")
    assert FileIdentity(file).of_token(token) == User("ada")


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "é", "x" * 65, "a\n", "../x"])
def test_names_are_plain(file: UserFile, name: str) -> None:
    """They are shown, logged and a part of keys."""
    with pytest.raises(BadUser, match="letters"):
        add(file, User(name), TIERS)
    with pytest.raises(BadUser, match="letters"):
        add(file, User("ada", group=name or " "), TIERS)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_file_that_others_can_touch_is_refused(file: UserFile, mode: int) -> None:
    """Read: digests leak. Written: anybody is anybody. While it is so, nobody gets in."""
    token = add(file, User("ada"), TIERS)
    identity = FileIdentity(file)
    file.path.chmod(mode)
    with pytest.raises(UsersUnavailable, match="chmod 600"):
        file.read()
    assert identity.of_token(token) is None
    file.path.chmod(0o600)
    assert identity.of_token(token) == User("ada")


def test_links_and_folders_are_no_file_of_users(file: UserFile, tmp_path: Path) -> None:
    """A link could lead to a file of somebody else's making."""
    (tmp_path / "elsewhere").write_text("")
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsersUnavailable):
        file.read()
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(UsersUnavailable, match="not a plain file"):
        file.read()


BAD_LINES = [
    "{",
    "[]",
    '{"name": "bob"}',
    '{"name": "bob", "token": "secret"}',
    '{"name": 7, "token": "TOKEN"}',
    '{"name": "bob", "token": "TOKEN", "admin": 1}',
    '{"name": "bob", "token": "TOKEN", "expires": true}',
    '{"name": "bob", "token": "TOKEN", "expires": NaN}',
    '{"name": "bob", "token": "TOKEN", "password": "x"}',
    '{"name": "ada", "token": "TOKEN"}',
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_and_locks_nobody_out(file: UserFile, line: str) -> None:
    """Error with file and line; those who were known stay, and the log says why."""
    token = add(file, User("ada"), TIERS)
    identity = FileIdentity(file)
    good = file.path.read_text()
    file.path.write_text(f"{good}# a remark\n\n{line.replace('TOKEN', digest('x'))}\n")
    with pytest.raises(BadUser, match=r"users\.jsonl, line 4: "):
        file.read()
    with pytest.raises(BadUser):
        FileIdentity(file)
    assert identity.of_token(token) == User("ada")
    assert identity.of_token("x") is None


def test_a_token_is_not_in_any_repr(file: UserFile) -> None:
    """Neither the token nor its digest gets into a log."""
    token = add(file, User("ada"), TIERS)
    (record,) = file.read().values()
    shown = f"{record!r} {file!r} {FileIdentity(file)!r}"
    assert token not in shown
    assert record.token not in shown


def test_a_tier_that_is_gone_is_told_in_the_log(
    file: UserFile, caplog: pytest.LogCaptureFixture
) -> None:
    """The user gets in, and an administrator can see what is wrong."""
    token = add(file, User("ada", "pro"), TIERS)
    assert FileIdentity(file, ("free",)).of_token(token) == User("ada", "pro")
    assert "ada has the tier 'pro'" in caplog.text


def _add_many(path: str, first: int) -> None:
    for number in range(first, first + 10):
        add(UserFile(Path(path)), User(f"user{number}"), TIERS)


def test_administrators_at_the_same_time_lose_nothing(file: UserFile) -> None:
    """Each change is made on top of the other's, and no half file is ever read."""
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_add_many, args=(str(file.path), n)) for n in (0, 100)]
    for one in both:
        one.start()
    while any(one.is_alive() for one in both):
        file.read()
    for one in both:
        one.join()
    assert len(file.read()) == 20
    assert all(json.loads(line) for line in file.path.read_text().splitlines())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_is_the_accounts(tmp_path: Path) -> None:
    """The broker's account owns the directory, and so the file in it that root makes."""
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    file = UserFile(folder / "users.jsonl")
    add(file, User("ada"), TIERS)
    assert {one.stat().st_uid for one in folder.iterdir()} == {12345}
    assert "ada" in file.read()
