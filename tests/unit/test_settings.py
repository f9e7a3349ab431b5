from pathlib import Path

import pytest

from zerokernel.broker.devices.layout import read_layout
from zerokernel.broker.devices.sizes import read_sizes
from zerokernel.settings import BadSetting, Settings, as_environment, load


def test_defaults_need_no_configuration(tmp_path: Path) -> None:
    """With neither file nor variables every setting has its default."""
    settings = load({"HOME": str(tmp_path)})
    assert settings == Settings(runtime_directory=settings.runtime_directory)


def test_environment_wins_over_file(tmp_path: Path) -> None:
    """A variable overrides the file, the file overrides the default."""
    file = tmp_path / "c.toml"
    file.write_text('simulated_slices = 3\ndefault_size = "half"\n')
    settings = load({"ZEROKERNEL_CONFIG": str(file), "ZEROKERNEL_SIMULATED_SLICES": "5"})
    assert (settings.simulated_slices, settings.default_size) == (5, "half")


def test_file_in_the_usual_place(tmp_path: Path) -> None:
    """The file is found below XDG_CONFIG_HOME."""
    (tmp_path / "zerokernel").mkdir()
    (tmp_path / "zerokernel" / "config.toml").write_text("status_line = false\n")
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}).status_line is False


@pytest.mark.parametrize(
    "content",
    ["colour = 1", "park_seconds = 'soon'", "channel = 'pigeon'", "broken =", "park_seconds = -1"],
)
def test_bad_file_is_named(tmp_path: Path, content: str) -> None:
    """A file with an unknown setting, a bad value or bad TOML raises BadSetting."""
    file = tmp_path / "c.toml"
    file.write_text(content)
    with pytest.raises(BadSetting):
        load({"ZEROKERNEL_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STATUS_LINE", "maybe"),
        ("SIMULATED_SLICES", "two"),
        ("DEFAULT_DURATION", "nan"),
        ("DEFAULT_DURATION", "0"),
        ("PARK_SECONDS", "inf"),
    ],
)
def test_bad_variable_is_named(name: str, value: str) -> None:
    """A variable that is not understood raises BadSetting with the setting's name."""
    with pytest.raises(BadSetting, match=name.lower()):
        load({f"ZEROKERNEL_{name}": value})


def test_tables_are_json_in_a_variable(tmp_path: Path) -> None:
    """A layout and sizes from the file reach the broker, which is started with variables."""
    file = tmp_path / "c.toml"
    file.write_text('[layout]\n"*" = ["1/2", "1/2"]\n[sizes.large]\ncores = 8\nmemory = "64G"\n')
    settings = load({"ZEROKERNEL_CONFIG": str(file)})
    assert read_layout(settings.layout).forms == {"*": ("1/2", "1/2")}
    (large,) = read_sizes(settings.sizes)
    assert dict(large.limits) == {"cores": 8, "memory": 64 << 30}
    assert load(as_environment(settings)) == settings


def test_only_tables_may_be_tables(tmp_path: Path) -> None:
    """Any other setting that is one is named."""
    file = tmp_path / "c.toml"
    file.write_text("[simulated_slices]\ncount = 3\n")
    with pytest.raises(BadSetting, match="simulated_slices"):
        load({"ZEROKERNEL_CONFIG": str(file)})


def test_settings_survive_the_environment(tmp_path: Path) -> None:
    """A child process that gets as_environment has the same settings."""
    settings = Settings(runtime_directory=tmp_path, status_line=False, simulated_slices=4)
    assert load(as_environment(settings)) == settings


def test_runtime_directory_is_host_local(tmp_path: Path) -> None:
    """XDG_RUNTIME_DIR is used where it can be written, else a directory of this user's."""
    assert load({"XDG_RUNTIME_DIR": str(tmp_path)}).runtime_directory == tmp_path / "zerokernel"
    fallback = load({"XDG_RUNTIME_DIR": "/nowhere"}).runtime_directory
    assert "zerokernel-" in fallback.name


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:secret@host/books",
        "postgresql://ada:@host/books",
        "postgresql://:secret@host/books",
        "postgres://ada:se/cret@host/books",
        "postgresql://ada:se?cret@host/books",
        "postgresql://ada:se%40cret@host:5432/books",
        "postgresql://host/books?password=secret",
        "postgresql://host/books?sslmode=require&p%61ssword=secret",
        "postgresql://host/books?sslpassword=secret",
    ],
)
def test_a_password_in_the_ledgers_url_is_refused_unseen(url: str) -> None:
    """Settings are handed on in the environment and shown: the error does not repeat it."""
    for name in ("ZEROKERNEL_LEDGER_URL", "ZEROKERNEL_LEDGER_PATH"):
        with pytest.raises(BadSetting, match="ledger_password_file") as error:
            load({name: url})
        assert "cret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/books",
        "postgresql://ada@host:5432/books?sslmode=verify-full&sslrootcert=system",
        "postgresql:///books?host=/run/postgresql",
        "postgresql://ada@[2001:db8::1]:5432/books",
        "postgresql://one:5432,other:5433/books?user=ada@realm&passfile=/etc/pgpass",
    ],
)
def test_a_ledgers_url_without_a_password_is_taken(url: str) -> None:
    """Ports, sockets, several hosts and names with an @ in them are none."""
    assert load({"ZEROKERNEL_LEDGER_URL": url}).ledger_url == url


def test_another_kind_of_url_is_no_ledger() -> None:
    """The error names the setting and what it is to be."""
    with pytest.raises(BadSetting, match=r"ledger_url.*postgresql://"):
        load({"ZEROKERNEL_LEDGER_URL": "mysql://host/books"})
