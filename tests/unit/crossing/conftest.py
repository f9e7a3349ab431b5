import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def small_heap() -> Iterator[None]:
    """A collection looks at what the test makes, not at all that other tests imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
