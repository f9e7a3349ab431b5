"""What `import zerokernel` and `%load_ext zerokernel` cost a kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
MOST_MODULES = 60

# The session's own start works in the background and is kept out: this is what a user waits for.
SCRIPT = """
import json, sys
import ipykernel.ipkernel, ipykernel.zmqshell  # a kernel has these
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
before = set(sys.modules)
import zerokernel
imported = set(sys.modules) - before
from zerokernel.notebook import session
session.Session.start = lambda self: None
shell.extension_manager.load_extension("zerokernel")
shell.extension_manager.unload_extension("zerokernel")
loaded = set(sys.modules) - before
print(json.dumps({"imported": sorted(imported), "loaded": sorted(loaded)}))
"""


def _measure(directory: Path) -> dict[str, Any]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ZEROKERNEL_RUNTIME_DIRECTORY": str(directory),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_loading_is_cheap(tmp_path: Path) -> None:
    """Loading imports few modules, and no heavy library."""
    loaded = _measure(tmp_path)["loaded"]
    roots = {name.partition(".")[0] for name in loaded}
    assert not roots & {"torch", "numpy", "pandas", "cloudpickle", "matplotlib", "pynvml"}
    assert not {"tornado.websocket", "tornado.httpclient"} & set(loaded)
    assert len(loaded) <= MOST_MODULES, loaded


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    """`import zerokernel` alone is one module."""
    assert _measure(tmp_path)["imported"] == ["zerokernel"]
