"""Tensors of a mapped file on the emulated device: the file is mapped again, not copied."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zerokernel import emulation
from zerokernel.crossing.file_windows import FileWindows
from zerokernel.crossing.second_mapping import shown_again
from zerokernel.emulation.files import map_again_by

COUNT = 100_000


@pytest.fixture(autouse=True)
def emulating() -> Iterator[None]:
    emulation.emulate()
    map_again_by(shown_again)
    yield
    map_again_by(None)
    emulation.remove()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "numbers"
    np.arange(COUNT, dtype=np.float32).tofile(path)
    return path


def mapped(path: Path, mode: Any = "c") -> Any:
    return torch.from_numpy(np.memmap(path, np.float32, mode))


def shows_a_file(tensor: Any) -> bool:
    storage = tensor.untyped_storage()
    return FileWindows().at(storage.data_ptr(), storage.nbytes()) is not None


def test_it_shows_the_file_from_two_places(path: Path) -> None:
    """On the device it is the file's content, in other memory; each keeps what is written to it."""
    tensor = mapped(path)
    moved = tensor.to("cuda")
    assert shows_a_file(moved)
    assert str(moved.device) == "cuda:0"
    assert moved.data_ptr() != tensor.data_ptr()
    assert torch.equal(moved.cpu(), tensor)
    moved[5] = -1
    tensor[6] = -2
    assert (tensor[5].item(), moved[6].item()) == (5, 6)
    assert np.fromfile(path, np.float32)[5] == 5


def test_what_was_written_before_is_copied(path: Path) -> None:
    """Of the memory's own pages the content goes along; if most were written, all is copied."""
    tensor = mapped(path)
    tensor[7] = 70
    moved = tensor.to("cuda")
    assert shows_a_file(moved)
    assert (moved[7].item(), moved[8].item()) == (70, 8)
    tensor[7] = 71
    assert moved[7].item() == 70
    tensor += 1
    moved = tensor.to("cuda")
    assert not shows_a_file(moved)
    assert moved[8].item() == 9


def test_parts_and_shapes(path: Path) -> None:
    """A part of a file is shown alone; what is no block of memory, or converted, is copied."""
    tensor = mapped(path)
    part = tensor[1000:90_000].view(-1, 100)
    moved = part.to("cuda")
    assert shows_a_file(moved)
    assert moved.untyped_storage().nbytes() == part.nbytes
    assert torch.equal(moved.cpu(), part)
    assert not shows_a_file(part.t().to("cuda"))
    assert not shows_a_file(tensor.to("cuda", torch.float64))
    assert not shows_a_file(tensor[:100].to("cuda"))
    moved = torch.nn.Parameter(tensor).to("cuda")
    assert moved.grad_fn is not None


def test_a_file_that_is_gone_or_another_is_copied(path: Path) -> None:
    """The tensor shows what it showed, also where its file cannot be mapped again."""
    tensor = mapped(path)
    path.with_name("other").write_bytes(bytes(4 * COUNT))
    os.replace(path.with_name("other"), path)
    moved = tensor.to("cuda")
    assert not shows_a_file(moved)
    assert moved[9].item() == 9


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_read_only_and_shared_mappings(path: Path) -> None:
    """A copy of what cannot be written can be; memory that others write to is copied."""
    moved = mapped(path, "r").to("cuda")
    assert shows_a_file(moved)
    moved += 1
    assert moved[1].item() == 2
    assert not shows_a_file(mapped(path, "r+").to("cuda"))
