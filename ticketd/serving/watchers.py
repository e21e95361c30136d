"""Owns the watchers of events: the state that each begins with, the changes after it, and the heartbeat.

A watcher gets the latest state of each changed event: at once if nothing was sent for INTERVAL_SECONDS, else when they
are over. So one line may stand for many commits. For a watcher that falls behind, only a number is kept.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from msgspec import UnsetType

from ticketd.commits.catalogue import Catalogue
from ticketd.serving.changes import Changes
from ticketd.serving.fair_share import FairShare
from ticketd.serving.watcher import BYTES_AT_ONCE, HEARTBEAT, HEARTBEAT_SECONDS, WATCHERS_PER_TURN, Watcher
from ticketd.wire.codec import tagged

INTERVAL_SECONDS = 0.1
# How many events of its first state a watcher is sent at once.
EVENTS_AT_ONCE = 256


class EventWatcher(Watcher):
    """One connection that watches an event, or all events if that is None.

    ``on_removal`` is called if its event is removed. For the others, see Watcher.
    """

    def __init__(
        self,
        event: str | None,
        tag: str | UnsetType,
        transport: asyncio.Transport,
        write_seconds_max: float,
        cut_off: Callable[[int], None],
        on_removal: Callable[[], None],
    ) -> None:
        super().__init__(tag, transport, write_seconds_max, cut_off)
        self.event = event
        self.on_removal = on_removal
        # The events of its first state that are still to be sent: from ``position`` up to, but not including, ``end``.
        self.position = self.end = 0
        # The number of the last change that need not be sent to it any more.
        self.seen = 0

    @property
    def has_state(self) -> bool:
        """Whether it has been sent all of its first state, to which later changes apply."""
        return self.position >= self.end


class Watchers:
    """All watchers of events. They are served in turns, which wait for the fair share."""

    def __init__(self, catalogue: Catalogue, fair_share: FairShare) -> None:
        self._catalogue = catalogue
        self._fair_share = fair_share
        self._loop = asyncio.get_running_loop()
        self._watchers: set[EventWatcher] = set()
        # The events that have changed since the last round began, and the changes before that.
        self._changed: dict[str, None] = {}
        self._changes = Changes()
        # When the next round begins, in which all watchers have a turn.
        self._timer: asyncio.Handle | None = None
        self._begins_at = 0.0
        self._sent_at = 0.0
        self._heartbeat_at = 0.0
        # In a round: who has not had a turn, whether those with nothing to receive get the heartbeat, and what
        # ``_lines_since`` has returned for each number.
        self._waiting: list[EventWatcher] = []
        self._sends_heartbeat = False
        self._lines: dict[int, tuple[int, bytes]] = {}
        catalogue.on_changes(self._on_changes)
        catalogue.on_removals(self._on_removals)

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: EventWatcher) -> None:
        """Send the watcher all changes from now on, once it has got all of its state by ``next_state``."""
        if watcher.event is None:
            watcher.end = len(self._catalogue)
        else:
            watcher.position = self._catalogue.position(watcher.event)
            watcher.end = watcher.position + 1
        watcher.seen = self._changes.last
        if not self._watchers:
            self._heartbeat_at = self._loop.time() + HEARTBEAT_SECONDS
        self._watchers.add(watcher)

    def remove(self, watcher: EventWatcher) -> None:
        """Stop sending changes to the watcher."""
        self._watchers.discard(watcher)

    def next_state(self, watcher: EventWatcher) -> bytes:
        """Return the next part of the state, as lines to send to it now. Empty if there are no events."""
        start, watcher.position = watcher.position, min(watcher.position + EVENTS_AT_ONCE, watcher.end)
        if watcher.has_state:
            self._schedule()
        return tagged(self._catalogue.event_lines(start, watcher.position), watcher.tag)

    def _on_changes(self, events: Iterable[str]) -> None:
        if self._watchers:
            self._changed.update(dict.fromkeys(events))
            self._schedule()

    def _on_removals(self, positions: Mapping[str, int]) -> None:
        """End the watchers of these events. The others go on, and hear no more of them."""
        for event in positions:
            self._changed.pop(event, None)
        self._changes.remove(positions)
        # These lines were joined for this round, with the removed events in them.
        self._lines.clear()
        for watcher in list(self._watchers):
            if not watcher.has_state:
                # What comes after a removed event has moved up.
                watcher.end -= sum(position < watcher.end for position in positions.values())
                watcher.position -= sum(position < watcher.position for position in positions.values())
            if watcher.event in positions:
                self._watchers.discard(watcher)
                watcher.on_removal()

    def _schedule(self) -> None:
        """Let the next round begin when it has to."""
        if self._waiting:
            return
        behind = self._changed or any(each.has_state and each.seen < self._changes.last for each in self._watchers)
        at = self._sent_at + INTERVAL_SECONDS if behind else self._heartbeat_at
        if self._timer and self._begins_at > at:
            self._timer.cancel()
            self._timer = None
        if self._watchers and self._timer is None:
            self._begins_at = at
            self._timer = self._loop.call_at(at, self._begin_round)

    def _begin_round(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._sends_heartbeat = now >= self._heartbeat_at
        if self._sends_heartbeat:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
        self._changes.add(self._changed)
        self._changed = {}
        # Who is still sent its state gets the changes in a later round: the lines of this one may be older.
        self._waiting = [watcher for watcher in self._watchers if watcher.has_state]
        if self._waiting:
            self._fair_share.wait(self._send)

    def _send(self) -> None:
        """Let the next watchers have their turn."""
        size = 0
        for _ in range(min(WATCHERS_PER_TURN, len(self._waiting))):
            watcher = self._waiting.pop()
            if watcher in self._watchers:
                size += self._send_to(watcher)
            if size > BYTES_AT_ONCE:
                break
        if self._waiting:
            self._fair_share.wait(self._send)
        else:
            self._lines.clear()
            self._sent_at = self._loop.time()
            self._schedule()

    def _send_to(self, watcher: EventWatcher) -> int:
        """Send a watcher what is next, and return how many bytes that is."""
        if (watcher.seen == self._changes.last and not self._sends_heartbeat) or not watcher.has_room():
            return 0
        watcher.seen, data = self._next_lines(watcher)
        if data := data or (HEARTBEAT if self._sends_heartbeat else b""):
            watcher.send(data)
        return len(data)

    def _next_lines(self, watcher: EventWatcher) -> tuple[int, bytes]:
        """Return what to send to a watcher next, after the number of the last change that it has seen then."""
        if watcher.event is not None:
            changed = self._changes.number_of(watcher.event) > watcher.seen
            return self._changes.last, self._catalogue.event_line(watcher.event) if changed else b""
        # Most watchers have seen the same.
        if watcher.seen not in self._lines:
            self._lines[watcher.seen] = self._lines_since(watcher.seen)
        return self._lines[watcher.seen]

    def _lines_since(self, seen: int) -> tuple[int, bytes]:
        data = bytearray()
        for number, event in self._changes.since(seen):
            if len(data) > BYTES_AT_ONCE:
                return seen, bytes(data)
            data += self._catalogue.event_line(event)
            seen = number
        return self._changes.last, bytes(data)
