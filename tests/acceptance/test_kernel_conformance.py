"""The kernel "Python 3 (GPU on demand)" is a Jupyter kernel like any other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import jupyter_kernel_test
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager, start_new_kernel

from tests.kernels import joined

TIMEOUT = 60


pytestmark = pytest.mark.usefixtures("kernelspec")


class TestConformance(jupyter_kernel_test.KernelTests):
    """The public suite, on our kernel."""

    kernel_name = "zerokernel"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "%%gp", "matches": {"%%gpu"}},
    ]
    complete_code_samples: ClassVar = ["1", "print('x')", "%%gpu\nx = 1\n\n"]
    incomplete_code_samples: ClassVar = ["print('''hello", "def f():", "%%gpu --cpu\nfor i in x:"]
    invalid_code_samples: ClassVar = ["import = 7q", "%%gpu --cpu\nimport = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('no')"
    code_execute_result: ClassVar = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data: ClassVar = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>x</b>'))",
            "mime": "text/html",
        },
    ]
    code_history_pattern = "1?2*"
    # "range" of the current session answers with session 0, in ipykernel itself.
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class Kernel:
    """A kernel of our spec, asked one thing at a time."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client

    def run(self, code: str, **how: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Executes; gives the reply's content and all outputs, streams in one piece."""
        outputs: list[dict[str, Any]] = []

        def keep(message: dict[str, Any]) -> None:
            if message["msg_type"] not in ("status", "execute_input"):
                outputs.append({"type": message["msg_type"], **message["content"]})

        reply = self.client.execute_interactive(
            code, timeout=TIMEOUT, output_hook=keep, allow_stdin=False, **how
        )
        return reply["content"], joined(outputs)

    def value(self, expression: str) -> str:
        reply, _ = self.run("", user_expressions={"v": expression})
        value = reply["user_expressions"]["v"]
        assert value["status"] == "ok", value
        return str(value["data"]["text/plain"])

    def complete(self, marked: str) -> tuple[str, list[str]]:
        """Completes at the mark |; gives the text that would be replaced, and the matches."""
        code = marked.replace("|", "")
        identity = self.client.complete(code, marked.index("|"))
        content = self._reply(identity)
        return code[content["cursor_start"] : content["cursor_end"]], content["matches"]

    def open_subshell(self) -> str:
        """Makes a subshell, which answers while the main shell is busy."""
        message = self.client.session.msg("create_subshell_request")
        self.client.control_channel.send(message)
        reply = self.client.get_control_msg(timeout=TIMEOUT)
        return str(reply["content"]["subshell_id"])

    def run_in_subshell(self, subshell: str, code: str) -> dict[str, Any]:
        """Executes in the subshell; gives the reply's content."""
        # An error is not to abort what is sent next, which may arrive before the kernel is done.
        content = {"code": code, "silent": False, "stop_on_error": False}
        message = self.client.session.msg("execute_request", content)
        message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return self._reply(message["header"]["msg_id"])

    def wait_for_phase(self, phase: str) -> None:
        """Reads outputs until the status line shows the phase."""
        while True:
            content = self.client.get_iopub_msg(timeout=TIMEOUT)["content"]
            if content.get("metadata", {}).get("zerokernel", {}).get("phase") == phase:
                return

    def _reply(self, identity: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") == identity:
                return dict(message["content"])


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Kernel]]:
    """Starts kernels, and ends them all."""
    kernels: list[Kernel] = []

    def begin(name: str = "zerokernel", **how: Any) -> Kernel:
        kernel = Kernel(*start_new_kernel(kernel_name=name, startup_timeout=TIMEOUT, **how))
        kernels.append(kernel)
        return kernel

    yield begin
    for kernel in kernels:
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel()


@pytest.fixture(scope="module")
def kernel(start: Callable[..., Kernel]) -> Kernel:
    kernel = start()
    # IPython warns of a SystemExit: each time, or the first run would differ from the second.
    kernel.run("import warnings; warnings.simplefilter('always')")
    # Python warns of it since 3.12, before or after what the shell prints.
    kernel.run("warnings.filterwarnings('ignore', '.*use of forkpty', DeprecationWarning)")
    return kernel


def test_the_kernelspec_says_what_servers_ask() -> None:
    """Servers learn its name, its language, that it has a debugger, and that it encrypts."""
    spec = KernelSpecManager().get_kernel_spec("zerokernel")
    assert spec.display_name == "Python 3 (GPU on demand)"
    assert spec.language == "python"
    assert spec.metadata == {"debugger": True, "supported_encryption": ["curve"]}
    assert {path.name for path in Path(spec.resource_dir).iterdir()} == {
        "kernel.json",
        "logo-32x32.png",
        "logo-64x64.png",
        "logo-svg.svg",
    }


def test_it_is_ipykernel_to_the_outside(kernel: Kernel) -> None:
    """Tools that look for ipykernel's implementation name and version find them."""
    info = kernel._reply(kernel.client.kernel_info())
    assert info["implementation"] == "ipython"
    assert tuple(map(int, info["implementation_version"].split(".")[:2])) >= (2, 1)
    assert info["language_info"]["name"] == "python"
    assert kernel.value("type(get_ipython()).__name__") == "'ZMQInteractiveShell'"


def test_the_magics_are_there_without_load_ext(kernel: Kernel) -> None:
    """The extension is loaded, and loading it again is harmless."""
    assert kernel.value("'gpu' in get_ipython().magics_manager.magics['cell']") == "True"
    assert kernel.run("%load_ext zerokernel")[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("marked", "replaced", "matches"),
    [
        ("%%gpu --du|\nx = 1", "--du", ["--duration"]),
        ("%%gpu --cpu --q|\nx = 1", "--q", ["--quiet"]),
        ("%gpu res|", "res", ["restart"]),
    ],
)
def test_options_complete_with_tab(
    kernel: Kernel, marked: str, replaced: str, matches: list[str]
) -> None:
    """A front end's complete_request gets exactly the options."""
    assert kernel.complete(marked) == (replaced, matches)


def test_question_mark_explains_the_options(kernel: Kernel) -> None:
    """`%%gpu?` opens a pager with all options."""
    [page] = kernel.run("%%gpu?")[0]["payload"]
    text = page["data"]["text/plain"]
    for option in ("--duration", "--size", "--cpu", "--quiet"):
        assert option in text


@pytest.mark.parametrize(
    "body",
    [
        "x = 6\nx * 7\n",
        "x = 1\nx;\n",
        "import asyncio\nawait asyncio.sleep(0, 'awaited')\n",
        "print('a')\nimport sys\nprint('b', file=sys.stderr)\n'c'\n",
        "def f(n):\n    return 1 / n\nf(0)\n",
        "raise SystemExit(3)\n",
        "x = = 1\n",
        "return 1\n",
        "raise ExceptionGroup('g', [ValueError(1), KeyError('k')])\n",
        "from IPython.display import HTML, display\ndisplay(HTML('<i>x</i>'))\n_\n",
        "%%capture out\nprint('caught')\n",
        "!echo shell\ny = !echo lines\ny\n",
    ],
)
def test_a_cell_run_in_place_is_a_plain_cell(kernel: Kernel, body: str) -> None:
    """Under `%%gpu --cpu` outputs, results, errors and reply are those of the plain cell."""
    comment = "" if body.startswith("%%") else "# %%gpu --cpu\n"
    plain = kernel.run(comment + body)
    ours = kernel.run("%%gpu --cpu\n" + body)
    count = plain[0]["execution_count"]
    assert _comparable(ours, count + 1) == _comparable(plain, count)


def _comparable(run: tuple[dict[str, Any], list[dict[str, Any]]], count: int) -> Any:
    """The run with its execution count, and the file named after the cell's text, made equal."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            text = value.replace(f"In[{count}]", "In[n]").replace("# %%gpu", "%%gpu")
            return re.sub(r"\d{4,}(\.py)", r"FILE\1", text)
        if isinstance(value, dict):
            return {key: clean(one) for key, one in value.items() if key != "engine_info"}
        if isinstance(value, list):
            return [clean(one) for one in value]
        return "n" if value == count else value

    return clean(list(run))


def test_the_kernel_sees_no_device_and_the_broker_learns_which(
    start: Callable[..., Kernel],
) -> None:
    """CUDA_VISIBLE_DEVICES is empty in the kernel and its children; the original is kept."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-aaaa,GPU-bbbb"}
    kernel = start(env=environment)
    assert kernel.value("__import__('os').environ['CUDA_VISIBLE_DEVICES']") == "''"
    shown = kernel.value("__import__('os').environ['ZEROKERNEL_VISIBLE_DEVICES']")
    assert shown == "'GPU-aaaa,GPU-bbbb'"


def test_a_kernel_with_a_bad_setting_starts_and_says_so(start: Callable[..., Kernel]) -> None:
    """A mistake in the configuration costs the GPU cells, not the notebook."""
    kernel = start(env={**os.environ, "ZEROKERNEL_CHANNEL": "pigeon"})
    assert kernel.value("1 + 1") == "2"
    reply, outputs = kernel.run("%%gpu\nx = 1\n")
    assert (reply["status"], reply["ename"]) == ("error", "BadSetting")
    assert "pigeon" in reply["evalue"]
    [shown] = [output for output in outputs if output["type"] == "error"]
    assert len(shown["traceback"]) == 1


def test_a_running_cell_can_be_cancelled_from_a_subshell(start: Callable[..., Kernel]) -> None:
    """`%gpu cancel` in a subshell ends the main shell's cell, and nothing of it is applied."""
    kernel = start()
    kernel.run("x = 1")
    subshell = kernel.open_subshell()
    cell = "%%gpu -d 50\nimport time\nx = 2\ntime.sleep(40)\n"
    identity = kernel.client.execute(cell, stop_on_error=False)
    kernel.wait_for_phase("running")
    second = kernel.run_in_subshell(subshell, "%%gpu\ny = 1\n")
    assert second["ename"] == "RequestRefused"
    assert kernel.run_in_subshell(subshell, "%gpu cancel")["status"] == "ok"
    reply = kernel._reply(identity)
    assert reply["status"] == "error"
    assert kernel.value("x") == "1"
    assert kernel.run("%%gpu\nx += 1\n")[0]["status"] == "ok"
    assert kernel.value("x") == "2"
