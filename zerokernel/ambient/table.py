"""The table of all settings, and what waits for a library to be imported."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

from zerokernel.ambient import on_import, on_worker
from zerokernel.ambient.context import CONTEXT
from zerokernel.ambient.cuda import DEVICES, PROFILE
from zerokernel.ambient.libraries import LIBRARIES
from zerokernel.ambient.process import PROCESS
from zerokernel.ambient.randomness import GENERATORS
from zerokernel.ambient.reporting import REPORTING
from zerokernel.ambient.setting import GONE, Setting, difference, same
from zerokernel.ambient.shell import SHELL
from zerokernel.ambient.versions import versions

State = dict[str, Any]
"""Names of settings with their values."""


def _registered() -> dict[str, Any]:
    return dict(_users)


def _put_registered(changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if value is not GONE:
            register_setting(name, *value)


# In the order in which they are written: what others change on the way comes before these.
_settings: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        PROFILE,  # first: what names a device needs one
        *PROCESS,
        *SHELL,
        *REPORTING,
        *LIBRARIES,
        *GENERATORS,
        *DEVICES,  # after the seed, which writes to their generators too
        *CONTEXT,
        Setting("imported", on_import.imported, on_import.imported_elsewhere, keyed=True),
        Setting("versions", versions.read, versions.told, keyed=True),
        Setting("zerokernel.on_worker", on_worker.registered, on_worker.take_over, live=True),
    )
}
_settings["zerokernel.settings"] = Setting(
    "zerokernel.settings", _registered, _put_registered, keyed=True, live=True
)

# The mutable state: what users registered, and values for what is not imported here yet.
_users: dict[str, tuple[Callable[[], Any], Callable[[Any], object], str]] = {}
_waiting: dict[str, Any] = {}


def register_setting(
    name: str,
    get: Callable[[], Any],
    set: Callable[[Any], object],
    module: str = "",
) -> None:
    """Has a setting of a library of yours cross with `%%gpu` cells, both ways.

    Before each cell its value is compared with the one on which notebook and worker agreed
    last; where it differs, it is set on the other side. A cell or a library may call this;
    calling it again with the same name replaces the pair.

    Args:
        name: Unique; notes in the receipt use it.
        get: Gives the present value, which must be cheap to get, to compare and to pickle.
        set: Sets a value that ``get`` gave in the other process.
        module: The pair is called only where this module is imported; "" stands for always.

    Raises:
        ValueError: zerokernel has a setting of that name itself.
    """
    if name in _settings and name not in _users:
        raise ValueError(f"The setting {name!r} is one of zerokernel's own: choose another name.")
    _users[name] = (get, set, module)
    _settings[name] = Setting(name, lambda: _unchanging(get()), lambda value: set(value), module)
    if name in _waiting:
        apply({name: _waiting.pop(name)})


def _unchanging(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, list | dict | set) else value


def capture() -> State:
    """The present ambient state of this process, cheap to take and to compare."""
    modules = sys.modules
    found: State = {}
    for setting in tuple(_settings.values()):
        if not setting.module or setting.module in modules:
            try:
                value = setting.read()
            except Exception:  # half imported, or of a version that knows it otherwise
                continue
            if value is not GONE:
                found[setting.name] = value
    return found


def diff(before: State, after: State) -> State:
    """What `apply` needs to turn the state ``before`` into the state ``after``."""
    delta: State = {}
    for name, value in after.items():
        if name not in before:
            delta[name] = value
        else:
            changed = difference(_settings.get(name), before[name], value)
            if changed is not GONE:
                delta[name] = changed
    return delta


def apply(delta: State) -> list[str]:
    """Puts a difference into this process.

    What belongs to a library that is not imported here waits until it is.

    Returns:
        One sentence for each setting that could not be set.
    """
    notes: list[str] = []
    for name, value in delta.items():
        setting = _settings.get(name)
        if setting is None or (setting.module and setting.module not in sys.modules):
            _wait(name, setting, value)
            continue
        try:
            _write(setting, value)
        except Exception as error:
            notes.append(failed(name, error))
    return notes


def failed(what: str, error: BaseException) -> str:
    """The sentence for a setting that could not be set."""
    return f"the setting {what} could not be taken over ({type(error).__name__}: {error})"


def with_removals(name: str, present: Any, whole: Any) -> Any:
    """A whole value as a difference: of an exact setting with what the other side has not."""
    setting = _settings.get(name)
    if setting is None or not setting.exact or not isinstance(present, dict):
        return whole
    return whole | dict.fromkeys(present.keys() - whole.keys(), GONE)


def is_live(name: str) -> bool:
    """Whether a setting's value travels with the notebook's objects."""
    setting = _settings.get(name)
    return setting is not None and setting.live


def is_keyed(name: str) -> bool:
    """Whether a setting's difference is a dict of what differs."""
    setting = _settings.get(name)
    return setting is not None and setting.keyed


def _write(setting: Setting, value: Any) -> None:
    present = setting.read()
    if setting.keyed:
        present = {} if present is GONE else present
        value = {k: v for k, v in value.items() if not same(present.get(k, GONE), v)}
        if value:
            setting.write(value)
    elif not same(present, value):
        setting.write(value)


def _wait(name: str, setting: Setting | None, value: Any) -> None:
    waiting = _waiting.get(name)
    if setting is not None and setting.keyed and isinstance(waiting, dict):
        value = {**waiting, **value}
    _waiting[name] = value
    if setting is not None:
        on_import.when_imported(setting.module, lambda: _write_waiting(setting.module))


def _write_waiting(module: str) -> None:
    ready = [name for name in _waiting if _settings[name].module == module]
    apply({name: _waiting.pop(name) for name in ready})
