"""Where workers run."""

from zerokernel.broker.engines.local import LocalEngine
from zerokernel.broker.engines.port import Door, Engine, Observer, Report

__all__ = ["Door", "Engine", "LocalEngine", "Observer", "Report"]
