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
