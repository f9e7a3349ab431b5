"""Shows in the notebook what a cell shows in its worker, as if it ran here."""

from __future__ import annotations

import builtins
import contextlib
import getpass
import sys
from collections.abc import Iterator
from typing import Any

from zerokernel.messages import Output


class OutputRelay:
    """Republishes the messages of one cell under the execute request that runs it.

    Each kind goes through the shell's own publisher, so that `%%capture`, output hooks and
    display history see it.

    Args:
        shell: The notebook's shell.
        comms: Ids of the comms that are open in the worker, kept up to date here.
    """

    def __init__(self, shell: Any, comms: set[str]) -> None:
        self._shell = shell
        self._comms = comms
        self._last_traceback: list[str] = []
        self._parent: dict[str, Any] | None = None  # of what is shown now, if not the current

    def show(self, output: Output, buffers: list[memoryview]) -> None:
        """Shows one message; a kind that has no place in a notebook's output is dropped."""
        handler = getattr(self, f"_show_{output.type}", None)
        with self._under(output.parent):
            if handler is not None:
                handler(output.content, output.metadata)
            elif output.type.startswith("comm_"):
                self._note_comm(output)
                self._send(output, buffers)

    def _note_comm(self, output: Output) -> None:
        identity = output.content.get("comm_id", "")
        if output.type == "comm_open":
            self._comms.add(identity)
        elif output.type == "comm_close":
            self._comms.discard(identity)

    @contextlib.contextmanager
    def _under(self, header: dict[str, Any]) -> Iterator[None]:
        """Shows what is shown within this block under another request than the current."""
        if not header or not hasattr(self._shell, "set_thread_parent"):
            yield
            return
        tokens = self._shell.set_thread_parent({"header": header})
        before, self._parent = self._parent, {"header": header}
        try:
            yield
        finally:
            self._parent = before
            self._shell.reset_thread_parent(tokens)

    def finish(self, result: Any) -> None:
        """Makes the cell's last value ``Out[n]`` and ``_``: the notebook's own object."""
        hook = self._shell.displayhook
        if result is not None:
            hook.update_user_ns(result)
            hook.fill_exec_result(result)

    def ask(self, prompt: str, password: bool) -> str:
        """Asks the person, as input() and getpass() do in this kernel."""
        return getpass.getpass(prompt) if password else builtins.input(prompt)

    def forward_payload(self, payload: tuple[dict[str, Any], ...]) -> None:
        """Passes on what the cell asks of the front end (a pager, the next cell's text)."""
        manager = getattr(self._shell, "payload_manager", None)
        for item in payload:
            if manager is not None:
                manager.write_payload(item)

    def mark_display_failed(self) -> None:
        """Has the shell report the cell as failed: showing its result raised in the worker."""
        self._shell._last_traceback_during_displayhook = True
        self._shell._last_traceback = self._last_traceback

    def _show_stream(self, content: dict[str, Any], _: dict[str, Any]) -> None:
        stream = sys.stderr if content["name"] == "stderr" else sys.stdout
        stream.write(content["text"])
        stream.flush()

    def _show_display_data(self, content: dict[str, Any], _: dict[str, Any]) -> None:
        self._publish(content, update=False)

    def _show_update_display_data(self, content: dict[str, Any], _: dict[str, Any]) -> None:
        self._publish(content, update=True)

    def _publish(self, content: dict[str, Any], *, update: bool) -> None:
        self._shell.display_pub.publish(
            content["data"],
            content.get("metadata") or {},
            transient=content.get("transient") or {},
            update=update,
        )

    def _show_clear_output(self, content: dict[str, Any], _: dict[str, Any]) -> None:
        self._shell.display_pub.clear_output(content.get("wait", False))

    def _show_execute_result(self, content: dict[str, Any], _: dict[str, Any]) -> None:
        # The worker's repr is shown; the object itself arrives with the results.
        hook = self._shell.displayhook
        hook.start_displayhook()
        hook.write_output_prompt()
        hook.write_format_data(content["data"], content.get("metadata") or {})
        hook.finish_displayhook()

    def _show_error(self, content: dict[str, Any], _: dict[str, Any]) -> None:
        # A traceback that the cell showed and went on; the one that ends it is raised.
        if self._parent is None:
            self._last_traceback = content.get("traceback") or []
        self._send(Output("error", content), [])

    def _send(self, output: Output, buffers: list[memoryview]) -> None:
        kernel = getattr(self._shell, "kernel", None)
        if kernel is None:  # a plain IPython terminal has no front end for these
            return
        kernel.session.send(
            kernel.iopub_socket,
            output.type,
            output.content,
            parent=self._parent or kernel.get_parent(),
            ident=_topic(output),
            metadata=output.metadata,
            buffers=buffers,
        )


def _topic(output: Output) -> bytes:
    if output.type.startswith("comm_"):
        return f"comm-{output.content.get('comm_id', '')}".encode()
    return output.type.encode()
