"""The inside of pandas' frames: blocks of values, and who shares them.

pandas copies a block's values before a write when another block shows them too. It knows
that from an object that the blocks have in common, which pandas itself does not pickle:
without it a write to a frame would show in the series that were taken from it.
"""

from __future__ import annotations

from typing import Any

_elsewhere: list[Any] = []
"""A block that is always alive: it stands for those that did not travel."""


def part_of_frame(kind: type) -> str | None:
    """Whether a type is one of refs, block or manager; None where it is another."""
    names = {f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__}
    for name, part in _PARTS.items():
        if name in names:
            return part
    return None


_PARTS = {
    "pandas._libs.internals.BlockValuesRefs": "refs",
    "pandas._libs.internals.Block": "block",
    "pandas.core.internals.managers.SingleBlockManager": "manager",
    "pandas.core.internals.managers.BlockManager": "manager",
}


def recipe(item: Any) -> tuple[Any, ...]:
    """How a refs object, a block or a manager is made."""
    part = part_of_frame(type(item))
    if part == "refs":
        return (make_refs, (bool(item.has_reference()),))
    if part == "block":
        made = (type(item), item.values, item.mgr_locs.indexer, item.ndim, item.refs)
        return (make_block, made)
    axes = item.axes if len(item.axes) > 1 else item.axes[0]
    return (make_manager, (type(item), item.blocks, axes))


def make_refs(shared: bool) -> Any:
    """The object that blocks with common values have in common."""
    from pandas._libs.internals import BlockValuesRefs

    refs = BlockValuesRefs()
    if shared:
        if not _elsewhere:
            _elsewhere.append(_empty_block())
        refs.add_reference(_elsewhere[0])
    return refs


def _empty_block() -> Any:
    import pandas as pd

    manager: Any = pd.DataFrame({"": [0]})._mgr
    return manager.blocks[0]


def make_block(kind: Any, values: Any, indexer: Any, ndim: int, refs: Any) -> Any:
    """A block over values that are already here."""
    from pandas._libs.internals import BlockPlacement

    return kind(values, placement=BlockPlacement(indexer), ndim=ndim, refs=refs)


def make_manager(kind: Any, blocks: Any, axes: Any) -> Any:
    """A manager of blocks that are already here."""
    if isinstance(axes, list):
        return kind(blocks, axes, verify_integrity=False)
    return kind(blocks[0], axes, verify_integrity=False)


def block_state(item: Any) -> Any:
    """What of a block may change."""
    return (item.values, item.mgr_locs.indexer, item.refs)


def put_block(item: Any, state: Any) -> None:
    """Puts values and those who share them into a live block."""
    from pandas._libs.internals import BlockPlacement

    values, indexer, refs = state
    item.values, item.mgr_locs = values, BlockPlacement(indexer)
    if item.refs is not refs:
        item.refs = refs
        refs.add_reference(item)
