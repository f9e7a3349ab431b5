"""What reaches names that a text does not show."""

from __future__ import annotations

# Built-ins that reach any name.
OPENING_BUILTINS = frozenset({"eval", "exec", "globals", "locals", "vars", "dir"})
# These give the namespace itself; the last three give a function's own inside a function.
WHOLE_BUILTINS = frozenset({"globals", "locals", "vars", "dir"})
IN_ANY_SCOPE = frozenset({"eval", "exec", "globals"})
# With an argument they look at that object.
OF_AN_OBJECT = frozenset({"vars", "dir"})

# Attributes through which a namespace is had.
WHOLE_ATTRIBUTES = frozenset(
    {"user_ns", "user_global_ns", "user_module", "f_globals", "f_locals", "__globals__"}
)
# Attributes through which code runs that the text does not show.
OPENING_ATTRIBUTES = frozenset({"run_cell", "run_cell_async", "run_code", "safe_execfile"})
# The same, but these names mean something else on most objects.
SHELL_METHODS = frozenset({"ev", "ex", "magic"})
# Methods that evaluate a text in their caller's scope, as pandas and numexpr have them.
EVALUATORS = frozenset({"eval", "query", "evaluate"})
# Unpickling looks classes up in `__main__` by names that only the pickle knows.
UNPICKLERS = frozenset({"pickle", "cloudpickle", "dill", "joblib", "torch"})
UNPICKLING = frozenset({"load", "loads"})
MAIN_LOOKUPS = frozenset({"modules", "import_module", "__import__"})
# Functions that show a text or look an attribute up by it, and never evaluate it.
SHOWING = frozenset({"print", "input", "getattr", "hasattr", "setattr", "delattr", "isinstance"})
