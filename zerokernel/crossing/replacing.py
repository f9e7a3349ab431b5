"""Where an object had to be replaced: known containers that refer to it are patched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from zerokernel.crossing.kinds import plan_of


def patches(
    items: Iterable[tuple[int, Any]], mapping: dict[int, Any]
) -> Iterator[tuple[int, Any, list[Any]]]:
    """The containers (token, object) that refer to a replaced object, and their new states.

    Args:
        items: The table's tokens and objects.
        mapping: The address of each old object, and the new one.
    """
    for token, item in items:
        plan = plan_of(item)
        if not plan.mutable or not plan.parts or plan.content:
            continue
        lanes = [id(child) for _, lane in plan.lanes([item]) for child in lane]
        if not mapping.keys().isdisjoint(lanes):
            yield token, item, [_swap(state, mapping) for state in plan.read(item)]


def _swap(state: Any, mapping: dict[int, Any]) -> Any:
    if id(state) in mapping:
        return mapping[id(state)]
    if type(state) is list:
        return [mapping.get(id(child), child) for child in state]
    if type(state) is tuple:
        return tuple(mapping.get(id(child), child) for child in state)
    if type(state) is set:
        return {mapping.get(id(child), child) for child in state}
    if type(state) is dict:
        return {
            mapping.get(id(key), key): mapping.get(id(child), child) for key, child in state.items()
        }
    return state
