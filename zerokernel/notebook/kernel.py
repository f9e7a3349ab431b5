"""The kernel "Python 3 (GPU on demand)": ipykernel's own, with zerokernel loaded."""

from __future__ import annotations

from typing import Any

from ipykernel.ipkernel import IPythonKernel

from zerokernel.notebook.extension import hide_devices, session_of


class ZeroKernel(IPythonKernel):
    """An IPythonKernel that needs no `%load_ext`, chosen by ``IPKernelApp.kernel_class``."""

    def __init__(self, **kwargs: Any) -> None:
        # Before anything of the user's runs, start-up files included. The kernelspec's `env`
        # cannot do it: the kernel would no longer see the original value.
        hide_devices()
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]  # ipykernel is partly typed
        self._load_extension()

    def _load_extension(self) -> None:
        shell: Any = self.shell
        try:
            shell.extension_manager.load_extension("zerokernel")
        except Exception:
            self.log.warning("zerokernel could not be loaded", exc_info=True)
            # The first %%gpu tries again and tells the user why it fails.
            shell.magics_manager.lazy_magics["gpu"] = "zerokernel"

    async def shell_channel_thread_main(self, msg: Any) -> None:
        """Takes a message from the shell channel, in its thread: a worker's comms go there.

        The shell itself would see it only after the cell, which may be waiting for it.
        """
        if not self._is_for_worker(msg):
            await super().shell_channel_thread_main(msg)  # type: ignore[no-untyped-call]  # as above

    def _is_for_worker(self, msg: Any) -> bool:
        session: Any = self.session
        gpu = session_of(self.shell)
        if gpu is None or session is None:
            return False
        try:
            _, parts = session.feed_identities(msg, copy=False)
            if b'"comm_' not in bytes(parts[1]):  # the header; most messages are others
                return False
            # Without the content, or ipykernel would be told that it has seen the message.
            message = session.deserialize(parts, content=False, copy=False)
            content = session.unpack(message["content"])
        except Exception:
            return False  # ipykernel says what is wrong with it
        kind = message["header"]["msg_type"]
        if kind not in ("comm_msg", "comm_close"):
            return False
        return bool(gpu.forward_comm(kind, content, message["metadata"], message["buffers"]))
