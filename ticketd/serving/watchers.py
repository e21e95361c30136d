"""Owns the watchers: sends the changes of the catalogue to the connections that watch it.

A watcher gets the latest state of each changed event: at once if nothing was sent for INTERVAL_SECONDS, else when they
are over. So one line may stand for many commits. An event is encoded once for all watchers.
"""

import asyncio
from collections.abc import Callable, Iterable

from ticketd.commits.catalogue import Catalogue

INTERVAL_SECONDS = 0.1
# How much a watcher is sent at once, about.
BYTES_AT_ONCE = 64 * 1024
# While a watcher has more unsent bytes than this, it is sent nothing.
WATCH_BYTES = 64 * 1024


class Watcher:
    """One connection that watches an event, or all events if that is None.

    ``cut_off`` is called with the number of unsent bytes if none of them was sent for ``write_seconds_max``.
    """

    def __init__(
        self,
        event: str | None,
        transport: asyncio.Transport,
        write_seconds_max: float,
        cut_off: Callable[[int], None],
    ) -> None:
        self.event = event
        # Changed events that it was not sent yet, in the order of change.
        self.pending: dict[str, None] = {}
        self._transport = transport
        self._write_seconds_max = write_seconds_max
        self._cut_off = cut_off
        self._loop = asyncio.get_running_loop()
        # The unsent bytes when some of them were last sent, and when that was.
        self._unsent = 0
        self._progress_at = 0.0

    def begin(self, state: list[bytes]) -> None:
        """Send the state to which later changes apply."""
        if state:
            self._transport.write(b"\n".join([*state, b""]))
        self._unsent, self._progress_at = self._transport.get_write_buffer_size(), self._loop.time()

    def send(self, data: bytes) -> bool:
        """Send changes, and return True; or return False if too much is unsent."""
        if self._transport.is_closing():
            return True
        unsent = self._transport.get_write_buffer_size()
        now = self._loop.time()
        if unsent <= WATCH_BYTES:
            self._transport.write(data)
            self._unsent, self._progress_at = unsent + len(data), now
            return True
        if unsent < self._unsent:
            self._unsent, self._progress_at = unsent, now
        elif now - self._progress_at > self._write_seconds_max:
            self._cut_off(unsent)
        return False


class Watchers:
    """All watchers of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._loop = asyncio.get_running_loop()
        self._watchers: set[Watcher] = set()
        self._changed: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sent_at = 0.0
        catalogue.subscribe(self._on_change)

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: Watcher) -> list[bytes]:
        """Send the watcher all changes from now on. Returns the current state, as encoded replies."""
        self._watchers.add(watcher)
        if watcher.event is None:
            return self._catalogue.event_frames()
        return [self._catalogue.event_frame(watcher.event)]

    def remove(self, watcher: Watcher) -> None:
        """Stop sending changes to the watcher."""
        self._watchers.discard(watcher)

    def _on_change(self, events: Iterable[str]) -> None:
        if self._watchers:
            self._changed.update(dict.fromkeys(events))
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(self._sent_at + INTERVAL_SECONDS, self._send)

    def _send(self) -> None:
        self._timer = None
        self._sent_at = self._loop.time()
        changed, self._changed = self._changed, {}
        lines: dict[str, bytes] = {}
        for watcher in list(self._watchers):
            watched = changed if watcher.event is None else dict.fromkeys(changed.keys() & {watcher.event})
            watcher.pending.update(watched)
            sent, data = self._next_lines(watcher, lines)
            if data and watcher.send(data):
                for event in sent:
                    del watcher.pending[event]
        if any(watcher.pending for watcher in self._watchers):
            self._schedule()

    def _next_lines(self, watcher: Watcher, lines: dict[str, bytes]) -> tuple[list[str], bytes]:
        """Return the next events to send to a watcher, and their lines: about BYTES_AT_ONCE.

        ``lines`` caches the encoded events.
        """
        event_ids: list[str] = []
        data = bytearray()
        for event_id in watcher.pending:
            if len(data) > BYTES_AT_ONCE:
                break
            if event_id not in lines:
                lines[event_id] = self._catalogue.event_frame(event_id) + b"\n"
            event_ids.append(event_id)
            data += lines[event_id]
        return event_ids, bytes(data)
