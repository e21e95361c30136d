"""Owns the watchers: the state that each begins with, the changes after it, and the heartbeat.

A watcher gets the latest state of each changed event: at once if nothing was sent for INTERVAL_SECONDS, else when they
are over. So one line may stand for many commits. For a watcher that falls behind, only a number is kept.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping

from msgspec import UnsetType

from ticketd.commits.catalogue import Catalogue
from ticketd.serving.changes import Changes
from ticketd.serving.fair_share import FairShare
from ticketd.wire.codec import encode, tagged
from ticketd.wire.replies import PongReply

INTERVAL_SECONDS = 0.1
# A watcher to which nothing else was sent for about this long is sent a line, which it has to read.
HEARTBEAT_SECONDS = 15.0
# How many events of its first state a watcher is sent at once.
EVENTS_AT_ONCE = 256
# About how many bytes of changes are sent at once to one watcher, and in one turn to all that take part in it.
BYTES_AT_ONCE = 64 * 1024
# How many watchers take part in a turn.
WATCHERS_PER_TURN = 64
# While a watcher has more unsent bytes than this, it is sent no changes.
WATCH_BYTES = 64 * 1024

_HEARTBEAT = encode(PongReply(heartbeat=True)) + b"\n"


class Watcher:
    """One connection that watches an event, or all events if that is None. Its lines have the ``tag`` of its request.

    ``cut_off`` is called with the number of unsent bytes if none of them was sent for ``write_seconds_max``, and
    ``on_removal`` if its event is removed.
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
        self.event = event
        self.tag = tag
        self.on_removal = on_removal
        # The events of its first state that are still to be sent: from ``position`` up to, but not including, ``end``.
        self.position = self.end = 0
        # The number of the last change that need not be sent to it any more.
        self.seen = 0
        self._transport = transport
        self._write_seconds_max = write_seconds_max
        self._cut_off = cut_off
        self._loop = asyncio.get_running_loop()
        # How many bytes were unsent when it last took some, and when that was. The first look counts as such a moment.
        self._unsent: float = math.inf
        self._progress_at = 0.0

    @property
    def has_state(self) -> bool:
        """Whether it has been sent all of its first state, to which later changes apply."""
        return self.position >= self.end

    def has_room(self) -> bool:
        """Whether it may be sent more. Cuts it off if it has taken nothing for too long."""
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


class Watchers:
    """All watchers of a catalogue. They are served in turns, which wait for the fair share."""

    def __init__(self, catalogue: Catalogue, fair_share: FairShare) -> None:
        self._catalogue = catalogue
        self._fair_share = fair_share
        self._loop = asyncio.get_running_loop()
        self._watchers: set[Watcher] = set()
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
        self._waiting: list[Watcher] = []
        self._sends_heartbeat = False
        self._lines: dict[int, tuple[int, bytes]] = {}
        catalogue.subscribe(self._on_changes, self._on_removals)

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: Watcher) -> None:
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

    def remove(self, watcher: Watcher) -> None:
        """Stop sending changes to the watcher."""
        self._watchers.discard(watcher)

    def next_state(self, watcher: Watcher) -> bytes:
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

    def _send_to(self, watcher: Watcher) -> int:
        """Send a watcher what is next, and return how many bytes that is."""
        if (watcher.seen == self._changes.last and not self._sends_heartbeat) or not watcher.has_room():
            return 0
        watcher.seen, data = self._next_lines(watcher)
        if data := data or (_HEARTBEAT if self._sends_heartbeat else b""):
            watcher.send(data)
        return len(data)

    def _next_lines(self, watcher: Watcher) -> tuple[int, bytes]:
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
