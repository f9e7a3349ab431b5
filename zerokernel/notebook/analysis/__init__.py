"""Which names a cell needs and makes: text in, names out.

Pure: no process, no socket, no IPython. The caller passes IPython's transformer and the
notebook's namespace as arguments.
"""

from zerokernel.notebook.analysis.captures import captures
from zerokernel.notebook.analysis.cell import analyse_cell
from zerokernel.notebook.analysis.names import Captures, CellNames

__all__ = ["Captures", "CellNames", "analyse_cell", "captures"]
