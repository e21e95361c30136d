"""Owns the watchers of bookings: once a second, reads what may have changed, and sends what did.

Only bookings of events that have changed are read: together and in slices, as the reader does for any client. So a
position may be a second old, and a line that moves up by a thousand places in a second is read once.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy

from msgspec import UnsetType
from msgspec.structs import astuple

from ticketd.commits.catalogue import Catalogue
from ticketd.commits.reader import Reader
from ticketd.ledger.base import ROWS_PER_SLICE
from ticketd.rules.showing import hide_names
from ticketd.rules.working_set import ReadWatched
from ticketd.serving.fair_share import FairShare
from ticketd.serving.watcher import BYTES_AT_ONCE, HEARTBEAT, HEARTBEAT_SECONDS, WATCHERS_PER_TURN, Watcher
from ticketd.wire.codec import encode
from ticketd.wire.replies import BookingFacts, BookingRecord, BookingReply, BookingsReply, Reply

INTERVAL_SECONDS = 1.0


class BookingWatcher(Watcher):
    """One connection that watches a booking, which it was ``shown``.

    ``sees_names`` returns whether it may see who did what. For the others, see Watcher.
    """

    def __init__(
        self,
        shown: BookingReply,
        sees_names: Callable[[], bool],
        tag: str | UnsetType,
        transport: asyncio.Transport,
        write_seconds_max: float,
        cut_off: Callable[[int], None],
    ) -> None:
        super().__init__(tag, transport, write_seconds_max, cut_off)
        self.booking, self.event = shown.id, shown.event
        self.sees_names = sees_names
        self.note(shown)

    def note(self, shown: BookingFacts) -> None:
        """Remember what it is shown."""
        self.stage = stage(shown)
        # About how many rows the next read takes: the booking, and its tickets if it may be confirmed by then.
        self.rows = 1 if shown.state == "waiting" else 1 + shown.quantity
        # Whether the booking has ended. After that, the watcher gets only the heartbeat.
        self.is_over = shown.state not in ("waiting", "held")


class BookingWatchers:
    """All watchers of bookings. A Client of the reader, for which they all wait together."""

    peer = "watchers"
    actor: str | None = None

    def __init__(self, catalogue: Catalogue, reader: Reader, fair_share: FairShare) -> None:
        self._reader = reader
        self._fair_share = fair_share
        self._loop = asyncio.get_running_loop()
        self._watchers: set[BookingWatcher] = set()
        # Watchers whose booking has not ended, by booking; and these bookings, by event.
        self._by_booking: dict[str, set[BookingWatcher]] = {}
        self._by_event: dict[str, set[str]] = {}
        # What the next round reads: bookings of these events, and these bookings.
        self._changed: set[str] = set()
        self._due: set[str] = set()
        self._timer: asyncio.Handle | None = None
        self._ended_at = self._loop.time() - INTERVAL_SECONDS
        # In a round: what is to be read, what is being read, and what was read and has to be sent.
        self._in_round = False
        self._unread: deque[str] = deque()
        self._reading: list[str] = []
        self._unsent: deque[tuple[BookingWatcher, BookingRecord]] = deque()
        # Watchers that this heartbeat has not reached yet.
        self._awaiting_heartbeat: deque[BookingWatcher] = deque()
        self._heartbeat_timer: asyncio.Handle | None = None
        catalogue.on_changes(self._on_changes)

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: BookingWatcher) -> None:
        """Send the watcher all changes since what it was shown."""
        if not self._watchers:
            self._plan_heartbeat()
        self._watchers.add(watcher)
        if not watcher.is_over:
            self._by_booking.setdefault(watcher.booking, set()).add(watcher)
            self._by_event.setdefault(watcher.event, set()).add(watcher.booking)
            # It may have changed since it was read.
            self._due.add(watcher.booking)
            self._schedule()

    def remove(self, watcher: BookingWatcher) -> None:
        """Send nothing more to the watcher."""
        self._watchers.discard(watcher)
        self._stop_reading_for(watcher)

    def _stop_reading_for(self, watcher: BookingWatcher) -> None:
        booking, event = watcher.booking, watcher.event
        watchers = self._by_booking.get(booking, set())
        watchers.discard(watcher)
        if not watchers and self._by_booking.pop(booking, None) is not None:
            self._due.discard(booking)
            self._by_event[event].discard(booking)
            if not self._by_event[event]:
                del self._by_event[event]

    def _on_changes(self, events: Iterable[str]) -> None:
        if self._by_event:
            self._changed.update(event for event in events if event in self._by_event)
            self._schedule()

    def _schedule(self) -> None:
        """Let the next round begin when it has to, if there is anything to read."""
        if not self._in_round and self._timer is None and (self._changed or self._due):
            self._timer = self._loop.call_at(self._ended_at + INTERVAL_SECONDS, self._begin_round)

    def _begin_round(self) -> None:
        self._timer = None
        self._in_round = True
        self._due.update(*(self._by_event.get(event, ()) for event in self._changed))
        self._unread.extend(self._due)
        self._changed, self._due = set(), set()
        self._fair_share.wait(self._read)

    def _read(self) -> None:
        """Read the next bookings, at most a slice; or end the round if there are none."""
        rows = 0
        for _ in range(min(ROWS_PER_SLICE, len(self._unread))):
            booking = self._unread.popleft()
            watchers = self._by_booking.get(booking, ())
            if any(watcher.has_room() for watcher in watchers):
                self._reading.append(booking)
                rows += next(iter(watchers)).rows
            elif watchers:
                self._due.add(booking)
            if rows >= ROWS_PER_SLICE:
                break
        if self._reading:
            self._reader.submit(self, [ReadWatched(self._reading)])
        elif self._unread:
            self._fair_share.wait(self._read)
        else:
            self._in_round = False
            self._ended_at = self._loop.time()
            self._schedule()

    def deliver(self, replies: Sequence[Reply]) -> None:
        """Take what was read. What could not be read is read again in the next round. See Client."""
        for reply in replies:
            if isinstance(reply, BookingsReply):
                for record in reply.bookings:
                    watchers = self._by_booking.get(record.id, ())
                    self._unsent.extend((watcher, record) for watcher in watchers if watcher.stage < stage(record))
            else:
                self._due.update(booking for booking in self._reading if booking in self._by_booking)
        self._reading = []
        self._fair_share.wait(self._send)

    def _send(self) -> None:
        """Let the next watchers have their turn."""
        size = sent = 0
        while self._unsent and sent < WATCHERS_PER_TURN and size < BYTES_AT_ONCE:
            watcher, record = self._unsent.popleft()
            sent += 1
            if watcher in self._watchers:
                size += self._send_to(watcher, record)
        self._fair_share.wait(self._send if self._unsent else self._read)

    def _send_to(self, watcher: BookingWatcher, record: BookingRecord) -> int:
        """Send a watcher its booking, and return how many bytes that is."""
        if not watcher.has_room():
            self._due.add(record.id)
            return 0
        line = _line(record, names=watcher.sees_names())
        watcher.send(line)
        watcher.note(record)
        if watcher.is_over:
            self._stop_reading_for(watcher)
        return len(line)

    def _plan_heartbeat(self) -> None:
        if self._heartbeat_timer:
            self._heartbeat_timer.cancel()
        self._heartbeat_timer = self._loop.call_later(HEARTBEAT_SECONDS, self._begin_heartbeat)

    def _begin_heartbeat(self) -> None:
        if self._watchers:
            self._awaiting_heartbeat.extend(self._watchers)
            self._plan_heartbeat()
            self._fair_share.wait(self._send_heartbeats)

    def _send_heartbeats(self) -> None:
        """Send the heartbeat to the next watchers."""
        for _ in range(min(WATCHERS_PER_TURN, len(self._awaiting_heartbeat))):
            watcher = self._awaiting_heartbeat.popleft()
            if watcher in self._watchers and watcher.has_room():
                watcher.send(HEARTBEAT)
        if self._awaiting_heartbeat:
            self._fair_share.wait(self._send_heartbeats)


def stage(booking: BookingFacts) -> tuple[int, float]:
    """Return how far a booking has come, to compare: a later stage is greater. Positions only fall.

    A booking without a known position counts as the earliest stage of its version.
    """
    return booking.version, -math.inf if booking.position is None else -booking.position


def _line(record: BookingRecord, *, names: bool) -> bytes:
    """Return a booking as the line that a watcher gets, with or without the names of who did what."""
    shown = BookingReply(*astuple(record)[: len(BookingFacts.__struct_fields__)])
    if not names:
        # Other watchers share the record, and may see its names.
        shown.changes = tuple(map(copy, shown.changes))
        hide_names([shown])
    return encode(shown) + b"\n"
