"""Owns how a daemon learns what others have changed: events, and which of them were removed.

A look for changes is one statement, so one snapshot. What this daemon commits while a look is under way may be in it or
not, and so may an answer that was loaded before: what was removed must not come back by either. An event that was
removed and created anew begins again with version 0. If an answer showed it during the look, its version does not tell
which of both is newer, unless it was sold: no daemon removes such an event.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ticketd.ledger.base import CannotOpenError, Changes
from ticketd.ledger.postgres.connection import XMIN_START, PooledConnection
from ticketd.ledger.postgres.known import Known
from ticketd.ledger.postgres.pool import OPEN_SECONDS_MAX, STANDBY_IS_AWAY, TRY_SECONDS_MAX, Pool, standby_away
from ticketd.ledger.postgres.schema import SCHEMA_VERSION
from ticketd.ledger.postgres.sql import NOW
from ticketd.ledger.postgres.waiting_lists import NEXT_OFFER
from ticketd.ledger.rows import EVENT_COLUMNS, event_of
from ticketd.model import Event

REMOVALS_REMEMBERED_MAX = 1_000
# An answer that was loaded before an event was removed, and shows it, comes no later than this.
LATE_SECONDS_MAX = 60.0

# What has changed since the transaction $1: a row for each event, or one row without an event. The columns before those
# of the event are the same in all rows. One of them has those of the events $2 that are there.
_CHANGES = f"""
SELECT {NOW}, pg_snapshot_xmin(pg_current_snapshot())::text,
    least((SELECT min(expires) FROM bookings WHERE state = 'held'), {NEXT_OFFER}),
    (SELECT schema_version FROM ledger), {STANDBY_IS_AWAY},
    ARRAY(SELECT ARRAY[event, changed::text] FROM removals WHERE changed >= $1::text::xid8),
    ARRAY(SELECT id FROM events WHERE id = ANY($2::text[])), {EVENT_COLUMNS}
FROM (VALUES (1)) AS once LEFT JOIN events ON events.changed >= $1::text::xid8 ORDER BY number
"""


class Look(NamedTuple):
    """What a look has found. Times are in milliseconds since 1970, by the clock of the database."""

    now: int
    next_expiry: int | None
    changes: Changes


class _Removal(NamedTuple):
    """When this daemon learned that an event was removed, by the loop's clock, and by which transaction.

    The transaction is not known if this daemon did it and has not looked since.
    """

    learned: float
    transaction: str | None = None


def _was_sold(event: Event) -> bool:
    """Whether a ticket of it was ever sold, held or waited for."""
    return event.version > event.amendments


def _age(event: Event) -> tuple[bool, int]:
    """Return what grows from one state of an event to the next, even if it was removed and created in between."""
    return _was_sold(event), event.version


class Looks:
    """Looks for changes, one look at a time, and takes them over into what is known."""

    def __init__(self, pool: Pool, known: Known) -> None:
        self._pool = pool
        self._known = known
        self._loop = asyncio.get_running_loop()
        # The last events that were removed.
        self._removals: dict[str, _Removal] = {}
        # The events that answers have shown since the last look began.
        self._shown: dict[str, Event] = {}

    def note_removed(self, ids: Iterable[str]) -> None:
        """Note the events that this daemon has removed."""
        self._remember(dict.fromkeys(ids))

    def note_shown(self, events: Iterable[Event]) -> None:
        """Note the events that an answer shows."""
        for event in events:
            self._shown[event.id] = max(event, self._shown.get(event.id, event), key=_age)

    async def look(self, connection: PooledConnection) -> Look:
        """Return at least what has changed since the last look on the connection. The first time, that is all events.

        Raises LedgerUnavailableError, and CannotOpenError if a newer ticketd has upgraded the tables.
        """
        began, before = self._loop.time(), connection.seen_xmin
        self._shown.clear()
        lately = [id for id, removal in self._removals.items() if removal.learned > began - LATE_SECONDS_MAX]
        async with self._pool.within(OPEN_SECONDS_MAX if connection.seen_xmin == XMIN_START else TRY_SECONDS_MAX):
            rows = await connection.fetch(_CHANGES, connection.seen_xmin, lately)
        now, xmin, next_expiry, version, standby_is_away, removals, there = rows[0][:7]
        if version != SCHEMA_VERSION:
            raise CannotOpenError(
                f"the ledger in the database {self._pool.name} has schema {version} now, and this ticketd knows"
                f" {SCHEMA_VERSION}; start a newer ticketd"
            )
        # What was removed meanwhile may still be in it.
        meanwhile = {id for id, removal in self._removals.items() if removal.learned >= began}
        events = {row[7]: event_of(row[7:]) for row in rows if row[7] is not None and row[7] not in meanwhile}
        # A connection reports a removal at least once. The second time, it must not remove the event that was created
        # with its id since.
        new = {id: transaction for id, transaction in removals if self._transaction(id) != transaction}
        connection.seen_xmin = xmin
        for id in new.keys() & self._shown.keys():
            shown = self._shown[id]
            if id in events and _was_sold(shown):
                events[id] = max(events[id], shown, key=_age)
            else:
                # It is left to the next look, which begins where this one did.
                del new[id]
                connection.seen_xmin = before
        self._remember(new)
        # What was created meanwhile may not be in it yet.
        removed = new.keys() | set(lately).difference(there, self._shown)
        for id in removed:
            self._known.events.pop(id, None)
        self._known.events.update(events)
        blocked = standby_away(self._pool.name) if standby_is_away else ""
        return Look(now, next_expiry, Changes(list(events.values()), removed, blocked))

    def _transaction(self, id: str) -> str | None:
        removal = self._removals.get(id)
        return removal and removal.transaction

    def _remember(self, removed: Mapping[str, str | None]) -> None:
        """Remember removals, each with its transaction if that is known."""
        for id, transaction in removed.items():
            # The last ones stand at the end.
            self._removals.pop(id, None)
            self._removals[id] = _Removal(self._loop.time(), transaction)
        while len(self._removals) > REMOVALS_REMEMBERED_MAX:
            del self._removals[next(iter(self._removals))]
