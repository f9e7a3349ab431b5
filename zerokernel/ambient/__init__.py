"""The state around the names, which a `%%gpu` cell has in common with the notebook.

`Surroundings` is one process's side of it. What is read and written is a table: see `table`,
and `libraries` for the settings of libraries; `local_modules` for the user's own modules.
"""

from zerokernel.ambient.setting import GONE, Setting
from zerokernel.ambient.surroundings import Changes, Surroundings, begin
from zerokernel.ambient.table import apply, capture, diff, register_setting

__all__ = [
    "GONE",
    "Changes",
    "Setting",
    "Surroundings",
    "apply",
    "begin",
    "capture",
    "diff",
    "register_setting",
]
