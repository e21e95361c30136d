"""A batch on its way into PostgreSQL: decided, saved by one statement (see ``function``), and its replies corrected."""

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
from ticketd.rules.commands import decide_all
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply

_SAVE = f"SELECT {EVENT_COLUMNS} FROM save($1, $2, $3, $4, $5, $6, $7, $8, $9)"

_encode = msgspec.json.Encoder().encode


class _Before(NamedTuple):
    """What a booking was when it was loaded, as far as what is decided on it depends on that."""

    state: str
    changes: int
    redemptions: int


class Batch:
    """Requests that are decided on a working set, and their replies."""

    def __init__(self, working_set: WorkingSet, requests: Sequence[LedgerRequest]) -> None:
        self._set = working_set
        self._events = {id: copy(event) for id, event in working_set.events.items()}
        self._bookings = {
            id: _Before(booking.state, len(booking.changes or ()), len(working_set.redemptions.get(id, ())))
            for id, booking in working_set.bookings.items()
        }
        self._replies = decide_all(working_set, requests)

    @property
    def changed(self) -> bool:
        """Whether there is anything to save."""
        return self._set.changed

    @property
    def granted(self) -> bool:
        """Whether each reply grants something that is new."""
        return not any(isinstance(reply, ErrorReply) or getattr(reply, "replayed", False) for reply in self._replies)

    @property
    def expired(self) -> int:
        """How many tickets are in the holds that it ends."""
        return sum(self._set.due.values())

    @property
    def bookings(self) -> Iterable[Booking]:
        """The new and the changed bookings."""
        return self._set.changed_bookings.values()

    @property
    def answers(self) -> Answers:
        """The replies, and the events as they are after the batch."""
        return Answers(self._replies, list(self._set.events.values()), changed=self.changed)

    async def save(self, connection: PooledConnection, id: str) -> bool:
        """Save all changes, and record the id of the batch. Returns False if nothing was done: load and decide again.

        Raises LedgerUnavailableError if the commit would not be durable. After another error it may be saved or not.
        """
        changes = self._set
        locks, checks = self._checks()
        try:
            rows = await connection.fetch(
                _SAVE,
                connection.name,
                id,
                changes.now,
                locks,
                _json(checks),
                _json(self._shifts()),
                _json([event for id, event in changes.changed_events.items() if id not in self._events]),
                _json(changes.new_redemptions),
                _json({event: [change] for event, change in changes.expired.items()}),
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
        self._correct(events, {event.id: _between(event, changes.events[event.id]) for event in events})
        return True

    async def look_up(self, connection: PooledConnection) -> None:
        """Correct the replies of a batch that is known to be saved, but whose result was lost."""
        rows = await connection.fetch(BOOKINGS, list(self._set.changed_bookings))
        saved = {row[0]: self._first(booking_of(row)) for row in rows}
        shifts = {each.event: _between(saved[each.id], self._first(each)) for each in self.bookings}
        self._correct(map(event_of, await connection.fetch(EVENTS, list(self._set.changed_events))), shifts)

    def _first(self, booking: Booking) -> Booking | Change:
        """Return what the batch did first with a booking: make it, or change it."""
        before = self._bookings.get(booking.id)
        return (booking.changes or [])[before.changes] if before else booking

    def _correct(self, events: Iterable[Event], shifts: Mapping[str, tuple[int, int]]) -> None:
        """Take over the events as they are now, and shift what the replies say of them: available and version."""
        self._set.events.update({event.id: event for event in events})
        for reply in self._changes_shown():
            available, version = shifts.get(reply.event, (0, 0))
            reply.available += available
            reply.version += version

    def _checks(self) -> tuple[list[str], Sequence[Sequence[object]]]:
        """Return the ids of all events to lock, and what must still hold of the bookings that change."""
        ids = {*self._set.changed_bookings, *(each.booking for each in self._set.new_redemptions)}
        checks = [(id, *self._bookings[id]) for id in ids if id in self._bookings]
        locks = {self._set.bookings[id].event for id, *_ in checks}
        return [*locks, *self._set.changed_events], checks

    def _shifts(self) -> list[Sequence[object]]:
        """Return the rows of ``shifts``: see ``function``."""
        new: dict[str, list[Booking]] = {}
        changed: dict[str, list[Sequence[object]]] = {}
        for booking in self.bookings:
            if before := self._bookings.get(booking.id):
                tickets = booking.tickets if before.state == "held" else None
                changes = (booking.changes or [])[before.changes :]
                changed.setdefault(booking.event, []).append((booking.id, booking.state, tickets or None, changes))
            else:
                new.setdefault(booking.event, []).append(booking)
        lowest, exact = self._lowest(), self._exact()
        rows: list[Sequence[object]] = []
        for id, after in sorted(self._set.changed_events.items()):
            # A new event is saved as it is after the batch, and shifts by nothing.
            known = self._events.get(id, after)
            named, was_named = ((each.name, each.date, each.original) for each in (after, known))
            rows.append(
                (
                    id,
                    known.version if id in exact else None,
                    lowest.get(id, known.available) - known.available,
                    after.capacity - known.capacity,
                    after.available - known.available,
                    after.held - known.held,
                    after.sold - known.sold,
                    after.version - known.version,
                    *((None, None, None) if named == was_named else named),
                    after.available,
                    after.version,
                    new.get(id, ()),
                    changed.get(id, ()),
                )
            )
        return rows

    def _lowest(self) -> dict[str, int]:
        """Return the lowest number of available tickets of each event, after any of the requests."""
        lowest: dict[str, int] = {}
        for reply in self._changes_shown():
            lowest[reply.event] = min(reply.available, lowest.get(reply.event, reply.available))
        return lowest

    def _changes_shown(self) -> Iterator[BookingReply]:
        """Yield the replies that show a change of this batch; others repeat an earlier one."""
        for reply in self._replies:
            if isinstance(reply, BookingReply):
                before = self._events.get(reply.event)
                if before is None or reply.version > before.version:
                    yield reply

    def _exact(self) -> set[str]:
        """Return the events that must be just as they were when the batch was decided."""
        exact = {*self._set.due, *(reply.id for reply in self._replies if isinstance(reply, EventReply))}
        if any(isinstance(reply, ErrorReply) and reply.available is not None for reply in self._replies):
            # It was refused since too few tickets were left, perhaps, and that may have changed.
            exact.update(self._events)
        return exact & self._events.keys()


def _between(now: Event | Booking | Change, decided: Event | Booking | Change) -> tuple[int, int]:
    """Return by how much available and version differ."""
    return now.available - decided.available, now.version - decided.version


def _json(rows: object) -> str | None:
    """Return a parameter of a statement, or None if it is empty."""
    return _encode(rows).decode() if rows else None
