from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.judge import ALL_LIBRARIES, Pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A plain kernel beside one whose marked cells run under `%%gpu`."""
    pair = Pair(tmp_path_factory.mktemp("pair"))
    yield pair
    pair.close()


@pytest.fixture(scope="session")
def torch_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The same with torch loaded, which most notebooks do not have."""
    pytest.importorskip("torch")
    pair = Pair(tmp_path_factory.mktemp("torch-pair"), libraries=ALL_LIBRARIES)
    yield pair
    pair.close()


@pytest.fixture(scope="session")
def cuda_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The same, and both have an emulated `cuda` device."""
    pytest.importorskip("torch")
    directory = tmp_path_factory.mktemp("cuda-pair")
    pair = Pair(directory, libraries=ALL_LIBRARIES, emulated=True)
    yield pair
    pair.close()


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two plain kernels."""
    twins = Pair(tmp_path_factory.mktemp("twins"), leased=False, libraries=ALL_LIBRARIES)
    yield twins
    twins.close()
