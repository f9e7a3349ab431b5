"""A cell's line to the broker: it outlives brokers, for the cell goes on under the next one."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from zerokernel.errors import BrokerLost
from zerokernel.messages import Message

if TYPE_CHECKING:
    from zerokernel.client import BrokerClient
    from zerokernel.notebook.connection import Connection


class BrokerLine:
    """Sends and hears by whichever client the connection has.

    Attributes:
        away: Whether the broker is gone and no other has taken its place yet.
    """

    def __init__(self, connection: Connection) -> None:
        self.away = False
        self._connection = connection
        self._client: BrokerClient = connection.client

    def tell(self, message: Message) -> None:
        """Tells the broker. While it is away nothing is told: the next one is asked anew."""
        if self.away:
            return
        try:
            self._client.send(message)
        except BrokerLost:
            self.away = True

    def events(self) -> list[Message]:
        """Gives what the broker said, without waiting; notices that it is gone."""
        if not self.away:
            try:
                return self._client.events()
            except BrokerLost:
                self.away = True
        return []

    def find_next(self) -> bool:
        """Whether another broker has taken the place of the one that was lost.

        Raises:
            BrokerLost: None will.
        """
        client = self._connection.client_after(self._client)
        if client is not None:
            self._client, self.away = client, False
        return client is not None

    def register(self, poll: select.poll) -> bool:
        """Has ``poll`` wake up for the broker. False where there is something to be read now."""
        if self.away:
            return True
        if self._client.fileno() < 0:
            return False  # closed since another took its place; what it had heard is still here
        poll.register(self._client, select.POLLIN)
        return True
