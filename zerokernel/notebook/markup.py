"""HTML for what zerokernel shows in a cell: inline styles, no script, no outside resource.

Colours come from the page (``currentColor``) or are mid-tones, so that light and dark
themes both stay readable, and an exported page looks as the notebook did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_TEXT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:12px;line-height:1.6"
_DOTS = {
    "queued": "#d9a21b",
    "starting": "#d9a21b",
    "running": "#3b82f6",
    "receipt": "#22a06b",
    "failed": "#d64545",
}


def status_html(
    phase: str, text: str, fraction: float | None = None, details: Sequence[str] = ()
) -> str:
    """Gives the status line: a dot, the text, a bar of the time used, details to unfold.

    Args:
        phase: One of the status line's phases; chooses the dot's colour.
        text: The line, plain text.
        fraction: Part of the time used, 0 to 1; None shows no bar.
        details: Plain texts under the line.
    """
    head = (
        f'<span style="color:{_DOTS.get(phase, "currentColor")}">●</span> '
        f'<span style="opacity:.8">{escape(text)}</span>'
        + (_bar(fraction) if fraction is not None else "")
    )
    body = f"<details><summary>{head}</summary>{_list(details)}</details>" if details else head
    return f'<div style="{_TEXT}">{body}</div>'


def _bar(fraction: float) -> str:
    used = round(100 * min(max(fraction, 0.0), 1.0))
    return (
        '<span style="display:inline-block;width:96px;height:6px;margin-left:8px;'
        "border-radius:3px;overflow:hidden;vertical-align:middle;"
        'background:rgba(128,128,128,.3)">'
        f'<span style="display:block;height:6px;width:{used}%;background:#3b82f6"></span></span>'
    )


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul style="margin:2px 0 2px 1.5em;opacity:.8">{items}</ul>'


def table_html(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], remarks: Iterable[str]
) -> str:
    """Gives a small table with a title above and remarks, one a line, below."""
    cells = "padding:1px 14px 1px 0;text-align:left"
    top = "".join(f'<th style="{cells};font-weight:600">{escape(text)}</th>' for text in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{cells}">{escape(text)}</td>' for text in row) + "</tr>"
        for row in rows
    )
    below = "".join(f"<div>{escape(remark)}</div>" for remark in remarks)
    return (
        f'<div style="{_TEXT}"><div style="opacity:.8">{escape(title)}</div>'
        f'<table style="border-collapse:collapse;margin:4px 0"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table>{below}</div>"
    )
