"""A batch: its requests are decided, its changes saved by one statement (see ``function``), its replies corrected."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import NamedTuple

import asyncpg
import msgspec

from ticketd.ledger.base import Answers, LedgerUnavailableError
from ticketd.ledger.postgres.connection import CONFLICTS, PooledConnection
from ticketd.ledger.postgres.function import NOT_DURABLE, STALE
from ticketd.ledger.postgres.load import BOOKINGS, EVENTS
from ticketd.ledger.rows import EVENT_COLUMNS, booking_of, event_of
from ticketd.model import Booking, Change, Event
from ticketd.rules.commands import decide_all, read_set
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply

_SAVE = f"SELECT {EVENT_COLUMNS} FROM save($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"

_encode = msgspec.json.Encoder().encode


class _BookingBefore(NamedTuple):
    """What a booking was before the batch, which is only saved if that still holds. The last two are counts."""

    state: str
    tickets: Sequence[str]
    expires: int | None
    changes: int
    redemptions: int


class Batch:
    """Requests that are decided on a working set, and their replies.

    ``time_is_known`` says that the time of the working set was read from the database, and is no estimate.
    """

    def __init__(
        self,
        working_set: WorkingSet,
        requests: Sequence[LedgerRequest],
        actors: Sequence[str | None] | None = None,
        *,
        time_is_known: bool = True,
    ) -> None:
        self._requests = requests
        self._time_is_known = time_is_known
        self._working_set = working_set
        # What was known before the batch.
        self._events_before = {id: copy(event) for id, event in working_set.events.items()}
        self._bookings_before = {
            id: _BookingBefore(
                booking.state,
                booking.tickets,
                booking.expires,
                len(booking.changes or ()),
                sum(map(len, working_set.redemptions.get(id, {}).values())),
            )
            for id, booking in working_set.bookings.items()
        }
        self._replies = decide_all(working_set, requests, actors)

    @property
    def changed(self) -> bool:
        """Whether there is anything to save."""
        return self._working_set.changed

    @property
    def granted(self) -> bool:
        """Whether each reply grants something that is new."""
        return not any(isinstance(reply, ErrorReply) or getattr(reply, "replayed", False) for reply in self._replies)

    @property
    def tickets_expired(self) -> int:
        """How many tickets are in the due holds that it ends. There are at most as many holds."""
        return sum(self._working_set.due.values())

    @property
    def bookings(self) -> Iterable[Booking]:
        """The new and the changed bookings."""
        return self._working_set.changed_bookings.values()

    @property
    def has_waiting_lists(self) -> bool:
        """Whether somebody waits in line for tickets of its events."""
        return bool(self._working_set.waiting_lists)

    @property
    def is_unserved(self) -> bool:
        """Whether more could be offered to those who wait in line than the batch offers."""
        return bool(self._working_set.unserved)

    @property
    def answers(self) -> Answers:
        """The replies, and the events as they are after the batch."""
        changes = self._working_set
        return Answers(
            self._replies,
            list(changes.events.values()),
            changed=self.changed,
            removed=changes.deleted_events,
            expired=changes.due if self.changed else {},
            offered=changes.offered,
            evicted=changes.evicted,
        )

    async def save(self, connection: PooledConnection, id: str) -> bool:
        """Save all changes, and record ``id``, by which ``Outcomes`` finds the batch.

        Returns False if nothing was done, since what was decided does not hold any more: load and decide again. Raises
        LedgerUnavailableError if the commit would not be durable. After another error it may be saved or not.
        """
        changes = self._working_set
        locks, checks = self._checks()
        try:
            rows = await connection.fetch(
                _SAVE,
                connection.name,
                id,
                changes.now,
                self._time_is_known,
                locks,
                _json(checks),
                _json(self._shifts()),
                _json([event for id, event in changes.changed_events.items() if self._is_new(id)]),
                _json(changes.new_redemptions),
                _json(changes.expired),
                _json(self._deleted()),
                _json(self._buyers()),
            )
        except CONFLICTS:
            return False
        except asyncpg.PostgresError as error:
            if error.sqlstate == STALE:
                return False
            if error.sqlstate == NOT_DURABLE:
                raise LedgerUnavailableError(f"the database would not sync the commit: {error}; set it to on") from None
            raise
        events = list(map(event_of, rows))
        self._correct(events, {event.id: _difference(event, changes.events[event.id]) for event in events})
        return True

    async def look_up(self, connection: PooledConnection) -> None:
        """Correct the replies of a batch that is known to be saved, but whose result was lost."""
        rows = await connection.fetch(BOOKINGS, list(self._working_set.changed_bookings))
        saved = {row[0]: self._first_change(booking_of(row)) for row in rows}
        shifts = {each.event: _difference(saved[each.id], self._first_change(each)) for each in self.bookings}
        self._correct(map(event_of, await connection.fetch(EVENTS, list(self._working_set.changed_events))), shifts)

    def _first_change(self, booking: Booking) -> Booking | Change:
        """Return the first change of a booking by the batch, or the booking if the batch made it."""
        before = self._bookings_before.get(booking.id)
        return (booking.changes or [])[before.changes] if before else booking

    def _correct(self, events: Iterable[Event], shifts: Mapping[str, tuple[int, int]]) -> None:
        """Replace the events by those in the database, and add the shifts to available and version in the replies.

        ``shifts`` has for each event by how much available and version differ from what was decided.
        """
        self._working_set.events.update({event.id: event for event in events})
        for reply in self._replies_to_changes():
            available, version = shifts.get(reply.event, (0, 0))
            reply.available += available
            reply.version += version

    def _checks(self) -> tuple[list[str], Sequence[Sequence[object]]]:
        """Return ``in_locks`` and ``in_checks``: see ``function``."""
        changes, before = self._working_set, self._bookings_before
        changing = before.keys() & {*changes.changed_bookings, *(each.booking for each in changes.new_redemptions)}
        locks = {changes.bookings[id].event for id in changing}
        known, absent = changing, set[str]()
        if not self.granted:
            # What is refused or told again must still hold when the rest is done: requests take effect in their order.
            reads = read_set(self._requests)
            known = known | before.keys() & (reads.bookings | reads.new_bookings)
            absent = reads.bookings - before.keys() - changes.changed_bookings.keys()
        checks: list[Sequence[object]] = [
            (id, before[id].state, before[id].changes, before[id].redemptions) for id in known
        ]
        return [*locks, *changes.changed_events], [*checks, *((id, None) for id in absent)]

    def _shifts(self) -> list[Sequence[object]]:
        """Return ``in_shifts``: see ``function``."""
        new: dict[str, list[Booking]] = {}
        changed: dict[str, list[Sequence[object]]] = {}
        for booking in self.bookings:
            if before := self._bookings_before.get(booking.id):
                tickets = None if booking.tickets is before.tickets else booking.tickets
                expires = None if booking.expires == before.expires else booking.expires
                changes = (booking.changes or [])[before.changes :]
                changed.setdefault(booking.event, []).append((booking.id, booking.state, tickets, changes, expires))
            else:
                new.setdefault(booking.event, []).append(booking)
        lowest, unchanged = self._lowest_available(), self._events_that_must_be_unchanged()
        rows: list[Sequence[object]] = []
        for id, after in sorted(self._working_set.changed_events.items()):
            # A new event is saved as it is after the batch, and shifts by nothing.
            known = after if self._is_new(id) else self._events_before[id]
            rows.append(
                (
                    id,
                    known.version if id in unchanged or self._is_new(id) else None,
                    lowest.get(id, known.available) - known.available,
                    after.capacity - known.capacity,
                    after.available - known.available,
                    after.held - known.held,
                    after.sold - known.sold,
                    after.version - known.version,
                    None if after.amendments == known.amendments else after,
                    after.available,
                    after.version,
                    new.get(id, ()),
                    changed.get(id, ()),
                    after.per_buyer,
                    known.waiting,
                    after.waiting - known.waiting,
                )
            )
        return rows

    def _is_new(self, event: str) -> bool:
        """Whether the batch creates an event, perhaps after it has deleted another one with the same id."""
        return event not in self._events_before or event in self._working_set.deleted_events

    def _deleted(self) -> list[Sequence[object]]:
        """Return ``in_deleted``: see ``function``."""
        before = self._events_before
        return [(id, before[id].version if id in before else None) for id in self._working_set.deleted_events]

    def _buyers(self) -> list[Sequence[object]]:
        """Return ``in_buyers``: see ``function``."""
        changes = self._working_set
        return [
            (
                event,
                buyer,
                None if math.isinf(spare) else changes.owned[event, buyer] + spare,
                changes.events[event].per_buyer,
            )
            for (event, buyer), spare in changes.spare.items()
        ]

    def _lowest_available(self) -> dict[str, int]:
        """Return the lowest number of available tickets of each event, after any of the requests."""
        lowest: dict[str, int] = {}
        for reply in self._replies_to_changes():
            lowest[reply.event] = min(reply.available, lowest.get(reply.event, reply.available))
        return lowest

    def _replies_to_changes(self) -> Iterator[BookingReply]:
        """Yield the replies to requests that made or changed a booking; others repeat an earlier reply."""
        for reply in self._replies:
            if isinstance(reply, BookingReply):
                before = self._events_before.get(reply.event)
                if before is None or reply.version > before.version:
                    yield reply

    def _events_that_must_be_unchanged(self) -> set[str]:
        """Return the events of which nothing may have changed since the batch was decided, not even by sales."""
        unchanged = {
            *self._working_set.due,
            *self._working_set.waiting_lists,
            *(reply.id for reply in self._replies if isinstance(reply, EventReply)),
        }
        if any(isinstance(reply, ErrorReply) and reply.available is not None for reply in self._replies):
            # It may have been refused because too few tickets were left.
            unchanged.update(self._events_before)
        return unchanged & self._events_before.keys()


def _difference(now: Event | Booking | Change, decided: Event | Booking | Change) -> tuple[int, int]:
    """Return by how much available and version are higher than was decided."""
    return now.available - decided.available, now.version - decided.version


def _json(rows: object) -> str | None:
    """Return rows as JSON, for a parameter of a statement; None if there are none."""
    return _encode(rows).decode() if rows else None
