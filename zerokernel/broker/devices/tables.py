"""Settings that are tables, written as JSON."""

from __future__ import annotations

import json
from typing import Any

from zerokernel.settings import BadSetting


def read_table(setting: str, text: str, of: str, form: str) -> dict[str, Any]:
    """Reads a setting that is a table; "" is an empty one.

    Args:
        setting: Its name.
        text: What it says.
        of: What it is a table of.
        form: How an entry looks.

    Raises:
        BadSetting: It is no table.
    """
    try:
        declared = json.loads(text or "{}")
    except ValueError as error:
        raise BadSetting(f"The setting {setting} is no table of {of}: {error}") from error
    if not isinstance(declared, dict):
        raise BadSetting(f"The setting {setting} is no table: {form}.")
    return declared
