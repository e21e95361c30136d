"""Who follows the catalogue, and what they have not been told yet.

Each is told the latest value of what changed, many commits at once: right away after a quiet time, and then every
INTERVAL_SECONDS. An event is encoded once for all of them, so a hundred watchers cost a stampede almost nothing.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ticketd.catalogue import Catalogue

INTERVAL_SECONDS = 0.1
BYTES_AT_ONCE = 64 * 1024


@dataclass(slots=True, eq=False)
class Watcher:
    """One connection that watches an event, or all (None). ``send`` returns False when it cannot take more now."""

    event: str | None
    send: Callable[[bytes], bool]
    # What it was not told yet, in the order of change; at most one entry for each event.
    behind: dict[str, None] = field(default_factory=dict)


class Watchers:
    """Tells watchers what the catalogue publishes."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._loop = asyncio.get_running_loop()
        self._watchers: set[Watcher] = set()
        self._changed: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0
        catalogue.subscribe(self._note)

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: Watcher) -> list[bytes]:
        """Begin to tell a watcher of changes of what is known; return the frames of the state from which they start."""
        self._watchers.add(watcher)
        if watcher.event is None:
            return self._catalogue.event_frames()
        return [self._catalogue.event_frame(watcher.event)]

    def remove(self, watcher: Watcher) -> None:
        """Tell it no more."""
        self._watchers.discard(watcher)

    def _note(self, events: Iterable[str]) -> None:
        if self._watchers:
            self._changed.update(dict.fromkeys(events))
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(self._told_at + INTERVAL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._told_at = self._loop.time()
        changed, self._changed = self._changed, {}
        lines: dict[str, bytes] = {}
        for watcher in list(self._watchers):
            news = changed if watcher.event is None else dict.fromkeys(changed.keys() & {watcher.event})
            watcher.behind.update(news)
            told, data = self._next_lines(watcher, lines)
            if data and watcher.send(data):
                for event in told:
                    del watcher.behind[event]
        if any(watcher.behind for watcher in self._watchers):
            self._schedule()

    def _next_lines(self, watcher: Watcher, lines: dict[str, bytes]) -> tuple[list[str], bytes]:
        """Return what a watcher is to be told next, not much more than BYTES_AT_ONCE; each event is encoded once."""
        told: list[str] = []
        data = bytearray()
        for event_id in watcher.behind:
            if len(data) > BYTES_AT_ONCE:
                break
            if event_id not in lines:
                lines[event_id] = self._catalogue.event_frame(event_id) + b"\n"
            told.append(event_id)
            data += lines[event_id]
        return told, bytes(data)
