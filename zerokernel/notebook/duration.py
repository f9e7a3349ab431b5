"""A duration as a user writes it: a time, or an expression that the notebook evaluates."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable
from datetime import timedelta
from numbers import Real

from zerokernel.errors import BadDuration

ACCEPTED = "Accepted: a time such as 90, 90s, 2m, 1h or 1h30m, or an expression that gives seconds."

_NUMBER = r"(\d+(?:\.\d+)?)"
_TIME = re.compile(
    rf"(?:{_NUMBER}\s*h)?\s*(?:{_NUMBER}\s*m)?\s*(?:{_NUMBER}\s*s)?", re.IGNORECASE | re.ASCII
)


def is_duration(text: str) -> bool:
    """Whether a text reads as a time or as a Python expression; nothing is evaluated."""
    return _literal(text) is not None or _is_expression(text)


def seconds(text: str, evaluate: Callable[[str], object]) -> float:
    """The duration that ``text`` gives, in seconds: positive and finite.

    Args:
        text: a time, or an expression whose value is a number of seconds, a timedelta, or a
            function without arguments that returns one of these.
        evaluate: evaluates an expression in the notebook; not called for a time.

    Raises:
        BadDuration: saying what was given, what came of it and what is accepted.
    """
    given = f"`--duration {text}`"
    literal = _literal(text)
    if literal is None:
        if not _is_expression(text):
            raise BadDuration(f"{given} is neither a time nor an expression. {ACCEPTED}")
        literal = _evaluated(text, evaluate, given)
    if not math.isfinite(literal):
        raise BadDuration(f"{given} is {literal}, not a finite time. {ACCEPTED}")
    if literal <= 0:
        raise BadDuration(f"{given} is {literal:g} seconds; it must be more than 0. {ACCEPTED}")
    return literal


def _literal(text: str) -> float | None:
    match = _TIME.fullmatch(text.strip())
    if match is not None and any(match.groups()):
        hours, minutes, rest = (float(group or 0) for group in match.groups())
        return hours * 3600 + minutes * 60 + rest
    try:
        return float(text)
    except ValueError:
        return None


def _is_expression(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _evaluated(text: str, evaluate: Callable[[str], object], given: str) -> float:
    try:
        value = evaluate(text)
        if callable(value):
            value = value()
        return _number(value, given)
    except BadDuration:
        raise
    except Exception as error:
        raise BadDuration(f"{given} raised {_told(error)}. {ACCEPTED}") from error


def _number(value: object, given: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    kind = type(value).__name__
    raise BadDuration(f"{given} gives an object of type {kind}, not a number. {ACCEPTED}")


def _told(error: Exception) -> str:
    name = type(error).__name__
    try:
        message = str(error)
    except Exception:  # an exception of the notebook may be anything
        message = ""
    return f"{name}: {message}" if message else name
