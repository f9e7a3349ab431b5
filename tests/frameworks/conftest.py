from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.frameworks.notebook import Notebook


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    """A notebook for the tests of one file. Each runs what it needs itself, in any order."""
    notebook = Notebook()
    yield notebook
    notebook.close()
