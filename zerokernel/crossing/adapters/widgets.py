"""Widgets: both processes have the widget, over one and the same model in the front end.

Whichever changes a value tells the front end; the other's copy gets the values with the rest of
what the cell changed. What the person does reaches the notebook's copy.
"""

from __future__ import annotations

import sys
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.restorer import Restorer
from zerokernel.errors import CannotTravel

_OWN_TRAITS = frozenset({"comm", "keys", "log", "_msg_callbacks", "_display_callbacks"})
"""Traits of which each side has its own."""

_INTERNALS = frozenset(
    {"_trait_values", "_trait_notifiers", "_trait_validators", "_cross_validation_lock"}
    | {"_model_id", "_property_lock", "_states_to_send", "_holding_sync"}
)


def _widget(item: Any, in_worker: bool) -> Any:
    if item.comm is None:
        raise CannotTravel("is a widget that was closed; make a new one")
    state = (_state(item), _observers(item))
    return (make_widget, (type(item), item.model_id), state, None, None, fill_widget)


def _state(item: Any) -> Any:
    """Values and other attributes; None where the widget was closed."""
    if item.comm is None:
        return None
    values = {
        name: value
        for name, value in item._trait_values.items()
        if name not in _OWN_TRAITS and type(value).__name__ != "CallbackDispatcher"
    }
    return (values, {n: value for n, value in vars(item).items() if n not in _INTERNALS})


def _observers(item: Any) -> dict[str, Any]:
    """What was given to ``observe``: it is called where the cell changes the value."""
    from traitlets.traitlets import EventHandler

    found: dict[str, Any] = {}
    for name, kinds in item._trait_notifiers.items():
        for kind, handlers in kinds.items():
            own = [handler for handler in handlers if not isinstance(handler, EventHandler)]
            if own:
                found.setdefault(name, {})[kind] = own
    return found


def make_widget(kind: Any, model: str) -> Any:
    """A widget over a model that the front end has already."""
    import comm

    made: Any = kind.__new__(kind)
    line = comm.create_comm(comm_id=model, target_name="jupyter.widget", primary=False)
    comm.get_comm_manager().register_comm(line)
    kernel: Any = getattr(sys.modules.get("ipykernel.kernelbase"), "Kernel", None)
    if kernel is not None and hasattr(line, "kernel") and kernel.initialized():
        line.kernel = kernel.instance()  # which else is known once it has sent something itself
    made.comm = line
    return made


def fill_widget(item: Any, state: Any) -> None:
    """Gives a new widget its values and observers."""
    values, observers = state
    _put(item, values)
    for name, kinds in observers.items():
        for kind, handlers in kinds.items():
            item._trait_notifiers.setdefault(name, {}).setdefault(kind, []).extend(handlers)


def _put(item: Any, state: Any) -> None:
    """Past the traits' own setters: the front end was told, and the observers were called."""
    if state is None:
        if item.comm is not None:
            item.close()
        return
    values, attributes = state
    item._trait_values.update(values)
    vars(item).update(attributes)


ADAPTERS: dict[str, Adapter] = {
    "ipywidgets.widgets.widget.Widget": Adapter(_widget, subclasses=True),
}

RESTORERS: dict[str, Restorer] = {"ipywidgets.widgets.widget.Widget": Restorer(_state, _put)}
