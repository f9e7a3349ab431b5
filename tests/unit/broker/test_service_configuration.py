"""The configuration of a shared broker: what it says, and what a mistake in it gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from zerokernel.broker.scheduling import Policy
from zerokernel.broker.service import Service, read_service
from zerokernel.broker.service.lines import line_of
from zerokernel.broker.service.schema import SHARED_DEFAULTS, WHOLE_TABLES, tables
from zerokernel.settings import BadSetting, Settings, load


def read(tmp_path: Path, text: str) -> Service:
    path = tmp_path / "broker.toml"
    path.write_text(text)
    return read_service(path)


def test_an_empty_file_is_a_broker_on_loopback(tmp_path: Path) -> None:
    """Nothing has to be said; the books are never in memory by themselves."""
    service = read(tmp_path, "")
    assert (service.reach.address, service.has_tls, service.reach.show_users) == (
        "127.0.0.1",
        False,
        False,
    )
    assert service.settings.ledger == "sql"
    assert service.users_file == Path("/var/lib/zerokernel/users.jsonl")
    assert service.settings.ledger_path == "/var/lib/zerokernel/ledger.sqlite"
    assert service.policy.tiers == Policy().tiers


def test_what_is_said_arrives(tmp_path: Path) -> None:
    """In policy, settings and reach; files are relative to the configuration's folder."""
    service = read(
        tmp_path,
        """
        [broker]
        address = "::1"
        port = 9000
        names = ["GPU.example.org"]
        show_users = true
        [users]
        file = "people"
        [policy]
        half_life = 600
        strict_tiers = true
        leases_per_user = 2
        [policy.tiers]
        student = 1
        staff = 2.5
        [policy.quotas]
        student = 100
        free = 10
        [policy.size_factors]
        xlarge = 2
        [workers]
        park_seconds = 60
        extend_limits = false
        [slices]
        scrub_memory = "always"
        simulated_slices = 3
        [layout]
        "*" = ["1/2", "1/2"]
        [sizes.half]
        is = "1/2"
        [ledger]
        path = "/srv/books.sqlite"
        """,
    )
    policy, settings = service.policy, service.settings
    assert (policy.half_life, policy.strict_tiers, policy.leases_per_user) == (600.0, True, 2)
    assert policy.tiers == {"student": 1.0, "staff": 2.5}
    assert policy.quotas == {"student": 100.0, "free": 10.0}
    assert policy.counts(1.0, "xlarge", "student") == 2.0
    assert (policy.park_seconds, policy.extend_limits, policy.scrub) == (60.0, False, "always")
    assert (settings.simulated_slices, settings.ledger_path) == (3, "/srv/books.sqlite")
    assert '"1/2"' in settings.layout
    assert "half" in settings.sizes
    assert service.users_file == tmp_path / "people"
    assert service.reach.names == ("GPU.example.org",)


MISTAKES = [
    ("[policy]\nhalf_live = 3", 2, "half_live", "Is half_life meant?"),
    ("[brokr]", 1, "brokr", "Is broker meant?"),
    ("x = 1", 1, "x", "There are broker,"),
    ("[broker]\ncolour = 'red'", 2, "colour", "There are address,"),
    ("broker = 3", 1, "broker", "not a table"),
    ("[broker]\n\nport = '80'", 3, "port", "not a whole number"),
    ("[broker]\nport = 70000", 2, "port", "65535"),
    ("[broker]\nport = true", 2, "port", "not a whole number"),
    ("[broker]\nnames = 'x'", 2, "names", "list of texts"),
    ("[broker]\nshow_users = 1", 2, "show_users", "true or false"),
    ("[policy]\nhalf_life = 0", 2, "half_life", "above zero"),
    ("[policy]\nhalf_life = nan", 2, "half_life", "finite"),
    ("[policy]\nleases_per_user = -1", 2, "leases_per_user", "from 0 on"),
    ("[policy]\nleases_per_user = 1.5", 2, "leases_per_user", "whole number"),
    ("[policy.tiers]\nfree = 1\npro = 0", 3, "pro", "above zero"),
    ("[policy]\ntiers = {free = 1, pro = 'x'}", 2, "tiers", "not a number"),
    ("[policy.quotas]\nfree = 1\nprop = 2", 3, "prop", "Is pro meant?"),
    ("[policy.quotas]\npro = -1", 1, "quotas", "from 0 on"),
    ("[policy]\nover_quota = 'later'", 2, "over_quota", "'when idle', 'refuse'"),
    ("[policy]\npark_seconds = 3", 2, "park_seconds", "no such key"),
    ("[slices]\ndevices = 'gpu'", 2, "devices", "'nvidia'"),
    ("[ledger]\nkind = 'auto'", 2, "kind", "'sql', 'memory'"),
    ("[ledger]\nurl = 'mysql://x'", 2, "url", "postgresql://"),
    ("[ledger]\n#\nurl = 'postgresql://a:b@c/d'", 3, "url", "password"),
    ('[layout]\n"*" = ["1/2"]\n"1" = ["third"]', 3, "1", "third"),
    ("[sizes.big]\nis = 'full'\n[sizes.half]\nis = 'x'", 3, "half", "'full'"),
    ("[tls]\nkey = 'k.pem'", 1, "tls", "certificate and key"),
    ("[broker]\naddress = '0.0.0.0'", 2, "address", "allow_plain"),
    ("[broker]\naddress = 'gpu.example.org'", 2, "address", "in the clear"),
]


@pytest.mark.parametrize(("text", "line", "key", "remedy"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_shown_where_it_is(
    tmp_path: Path, text: str, line: int, key: str, remedy: str
) -> None:
    """File, line, key, and what is allowed."""
    with pytest.raises(BadSetting) as error:
        read(tmp_path, text)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'broker.toml'}, line {line}: ")
    assert key in message
    assert remedy in message


def test_what_is_no_toml_says_where(tmp_path: Path) -> None:
    """So does what cannot be read at all."""
    with pytest.raises(BadSetting, match=r"broker\.toml.*line 2"):
        read(tmp_path, "[broker]\nport 3\n")
    with pytest.raises(BadSetting, match=r"nowhere\.toml.*No such file"):
        read_service(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "text",
    [
        "[broker]\naddress = '0.0.0.0'\nallow_plain = true",
        "[broker]\naddress = '0.0.0.0'\n[tls]\ncertificate = 'c'\nkey = 'k'",
        "[broker]\naddress = '127.0.0.7'",
        "[broker]\naddress = 'localhost'",
    ],
)
def test_other_addresses_need_tls_or_a_word(tmp_path: Path, text: str) -> None:
    """Loopback needs neither, for a proxy on the same machine."""
    assert read(tmp_path, text).reach.address


def test_every_number_of_the_policy_can_be_set() -> None:
    """Each field is a key of [policy], or set by a setting, or a time of the machinery."""
    fields = {field.name for field in dataclasses.fields(Policy)}
    elsewhere = fields - tables()["policy"].keys()
    settings = {field.name for field in dataclasses.fields(Settings)} | {"scrub"}
    assert elsewhere - settings == {
        "answers_per_session",
        "deadline_slack",
        "release_grace",
        "stop_seconds",
    }


def test_each_key_ends_in_a_field_of_its_own() -> None:
    """No two keys set the same, and all of a shared broker's own defaults can be changed."""
    keys = [(one.owner, one.field) for table in tables().values() for one in table.values()]
    assert len(keys) == len(set(keys))
    assert {("settings", name) for name in SHARED_DEFAULTS} <= set(keys)
    assert not WHOLE_TABLES.keys() & tables().keys()


def test_neither_variables_nor_the_users_own_file_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who starts the broker does not change what it is by their environment."""
    monkeypatch.setenv("ZEROKERNEL_PARK_SECONDS", "7")
    assert load().park_seconds == 7
    assert read(tmp_path, "").settings.park_seconds == Settings(tmp_path).park_seconds


LINES = """# a remark
[a]
one = 1
"two = 2" = 2 # = 3
sub.key = 4

[a.b]
c = [
  1,
]
[ "d e" . f ]
one = "x = 5"
g = {h = 1}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 2),
        (("a", "one"), 3),
        (("a", "two = 2"), 4),
        (("a", "sub", "key"), 5),
        (("a", "b", "c"), 8),
        (("a", "b", "missing"), 7),
        (("d e", "f", "one"), 12),
        (("d e", "f", "g", "h"), 13),
        (("nowhere",), None),
    ],
)
def test_the_line_of_a_key(path: tuple[str, ...], line: int | None) -> None:
    """Its own, else its table's."""
    assert line_of(LINES, path) == line
