"""Tab after `%%gpu` and `%gpu` offers exactly their options."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from zerokernel.notebook.magics import SUBCOMMANDS
from zerokernel.notebook.options import complete

_CELL = re.compile(r"%%gpu\s+")
_LINE = re.compile(r"\s*%gpu\s+(\w*)$")


def option_matcher(sizes: Callable[[], Sequence[str]]) -> Any:
    """Makes the matcher for a shell's ``Completer.custom_matchers``.

    Args:
        sizes: Gives the names that `--size` may have, as far as they are known.
    """

    @context_matcher(identifier="zerokernel.options")  # type: ignore[untyped-decorator]
    def match(context: CompletionContext) -> dict[str, Any]:
        before = context.text_until_cursor
        if command := _LINE.match(before):
            word = command.group(1)
            return _result(word, [name for name in SUBCOMMANDS if name.startswith(word)])
        magic = _CELL.match(before)
        if magic is None or not _is_first(context):
            return {"completions": [], "suppress": False}
        start = magic.end()
        line = context.line_with_cursor[start:]
        found = complete(line, context.cursor_position - start, sizes())
        return _result(found.fragment, found.matches)

    return match


def _is_first(context: CompletionContext) -> bool:
    above = context.full_text.split("\n")[: context.cursor_line]
    return not any(line.strip() for line in above)


def _result(fragment: str, matches: Sequence[str]) -> dict[str, Any]:
    return {
        "completions": [SimpleCompletion(text=match, type="option") for match in matches],
        "matched_fragment": fragment,
        "suppress": bool(matches),
        "ordered": True,
    }
