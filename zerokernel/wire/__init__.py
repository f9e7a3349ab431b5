"""Frames and channels that carry messages and buffers between two processes."""

from zerokernel.wire.channel import Channel, Received
from zerokernel.wire.endpoints import Listener, connect, listen

__all__ = ["Channel", "Listener", "Received", "connect", "listen"]
