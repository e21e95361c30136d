"""Sends a watcher no more than it reads, and cuts it off if it reads nothing. Does not know what it watches."""

import asyncio
import math
from collections.abc import Callable

from msgspec import UnsetType

from ticketd.wire.codec import encode, tagged
from ticketd.wire.replies import PongReply

# A watcher that was sent nothing else for about this long is sent a heartbeat, which it has to read.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = encode(PongReply(heartbeat=True)) + b"\n"
# While a watcher has more unsent bytes than this, it is sent no changes.
WATCH_BYTES = 64 * 1024
# How many watchers are sent something in one turn, and about how many bytes in all.
WATCHERS_PER_TURN = 64
BYTES_AT_ONCE = 64 * 1024


class Watcher:
    """One connection that watches. Its lines have the ``tag`` of its request.

    ``cut_off`` is called with the number of unsent bytes if none of them was sent for ``write_seconds_max``.
    """

    def __init__(
        self,
        tag: str | UnsetType,
        transport: asyncio.Transport,
        write_seconds_max: float,
        cut_off: Callable[[int], None],
    ) -> None:
        self.tag = tag
        self._transport = transport
        self._write_seconds_max = write_seconds_max
        self._cut_off = cut_off
        self._loop = asyncio.get_running_loop()
        # How many bytes were unsent when it last read some, and when that was. The first look counts too.
        self._unsent: float = math.inf
        self._progress_at = 0.0

    def has_room(self) -> bool:
        """Whether it may be sent more. Cuts it off if it has read nothing for too long."""
        if self._transport.is_closing():
            return False
        unsent, now = self._transport.get_write_buffer_size(), self._loop.time()
        if unsent == 0 or unsent < self._unsent:
            self._unsent, self._progress_at = unsent, now
        elif now - self._progress_at > self._write_seconds_max:
            self._cut_off(unsent)
            return False
        return unsent <= WATCH_BYTES

    def send(self, lines: bytes) -> None:
        """Send lines. Only if ``has_room``."""
        data = tagged(lines, self.tag)
        self._unsent = self._transport.get_write_buffer_size() + len(data)
        self._transport.write(data)
