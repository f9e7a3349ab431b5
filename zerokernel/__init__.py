"""A Jupyter kernel and IPython extension that gives a notebook a GPU by the cell."""

__version__ = "0.1.0"
