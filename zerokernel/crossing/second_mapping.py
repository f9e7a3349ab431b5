"""A mapped file is mapped once more, where a copy of what it shows is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zerokernel.crossing import mapped_files
from zerokernel.crossing.buffers import IN_BAND, write_pieces
from zerokernel.crossing.file_windows import FileWindows
from zerokernel.crossing.tensors import storage_of_file


def shown_again(address: int, size: int) -> Any:
    """Another storage that shows the file which is mapped at an address, from there on.

    Both keep to themselves what is written to them; what was written before is copied.

    Args:
        address: Of the first byte.
        size: In bytes.

    Returns:
        None where there is no file, or another one in its place, and where a copy costs less.
    """
    window = FileWindows().at(address, size) if size >= IN_BAND else None
    if window is None or (window.area.writable and not window.area.private):
        return None
    runs = window.runs()
    if 2 * sum(stop - start for start, stop in runs) > size:
        return None
    part = replace(window.part(of_its_own=True), access=mapped_files.PRIVATE)
    (mapped,) = mapped_files.map_again([part])
    if mapped.memory is None:
        return None
    storage = storage_of_file(mapped)
    pieces = ((*run, mapped_files.memory_bytes(address + run[0], run[1] - run[0])) for run in runs)
    write_pieces(storage, pieces)
    return storage
