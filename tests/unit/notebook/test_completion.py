"""Tab after `%%gpu` offers its options and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from zerokernel.notebook.completion import option_matcher


@pytest.fixture
def complete(shell: Any) -> Any:
    """Completes at the mark | as a front end does; gives (replaced text, offered texts)."""
    shell.Completer.custom_matchers.append(option_matcher(lambda: ("half", "full")))

    def ask(marked: str) -> tuple[str, list[str]]:
        text = marked.replace("|", "")
        with provisionalcompleter():
            found = list(shell.Completer.completions(text, marked.index("|")))
        replaced = {text[one.start : one.end] for one in found}
        return "".join(replaced), [one.text for one in found]

    return ask


@pytest.mark.parametrize(
    ("marked", "replaced", "offered"),
    [
        ("%%gpu --du|\nx = 1", "--du", ["--duration"]),
        ("%%gpu --cpu --q|", "--q", ["--quiet"]),
        ("\n\n%%gpu --si|\nx", "--si", ["--size"]),
        ("%%gpu --size h|\nx", "h", ["half"]),
        ("%gpu re|", "re", ["restart"]),
        ("x = 1\n%gpu can|", "can", ["cancel"]),
    ],
)
def test_what_is_offered(complete: Any, marked: str, replaced: str, offered: list[str]) -> None:
    """Exactly the options, sizes or commands that begin so, replacing what was typed."""
    assert complete(marked) == (replaced, offered)


def test_all_options_are_offered_after_a_dash(complete: Any) -> None:
    """Two dashes offer every option."""
    assert set(complete("%%gpu --|\nx")[1]) >= {"--duration", "--size", "--cpu", "--quiet"}


def test_all_sizes_are_offered(complete: Any) -> None:
    """After --size the sizes of this broker are offered, in the broker's order."""
    assert complete("%%gpu --size |\nx") == ("", ["half", "full"])


@pytest.mark.parametrize(
    "marked", ["%%gpu --cpu\nimport col|", "x = 1\n%%gpu --du|", "%%gpux --du|", "import col|"]
)
def test_elsewhere_completion_is_as_before(complete: Any, marked: str) -> None:
    """In the body, and where `%%gpu` is no cell magic, we offer nothing."""
    offered = complete(marked)[1]
    assert "--duration" not in offered
    assert ("collections" in offered) == ("col|" in marked)
