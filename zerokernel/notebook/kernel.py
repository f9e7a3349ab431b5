"""The kernel "Python 3 (GPU on demand)": ipykernel's own, with zerokernel loaded."""

from __future__ import annotations

from typing import Any

from ipykernel.ipkernel import IPythonKernel

from zerokernel.notebook.extension import hide_devices


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
