"""Loads what a batch reads from the embedded ledger into its working set. Memory has all events already."""

import math
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

import apsw
import msgspec

from ticketd.ledger.embedded.schema import IS_OWNED
from ticketd.ledger.rows import BOOKING_COLUMNS, REDEMPTION_COLUMNS, booking_of
from ticketd.model import TICKETS_PER_BOOKING_MAX, Booking, Event, Redemption
from ticketd.rules.waiting import offer_budgets
from ticketd.rules.waiting_list import WaitingList
from ticketd.rules.working_set import BOOKINGS_SEARCHED, Page, ReadSet, WorkingSet

_SELECT_BOOKINGS = f"SELECT {BOOKING_COLUMNS} FROM bookings"
# If a page is searched for, :searched is the last booking to look at, or null if there are no more.
_PAGE = f"""
{_SELECT_BOOKINGS} WHERE id > :after AND (:searched IS NULL OR id <= :searched)
AND (:event IS NULL OR event = :event) AND (:buyer IS NULL OR buyer = :buyer) ORDER BY id
"""
_SEARCHED = f"SELECT id FROM bookings WHERE id > ? ORDER BY id LIMIT 1 OFFSET {BOOKINGS_SEARCHED - 1}"
_SELECT_REDEMPTIONS = f"SELECT {REDEMPTION_COLUMNS} FROM redemptions"
# How many tickets buyers have. The parameter has rows in JSON: 0 event, 1 until when its holds have ended, 2 buyers.
# Most buyers have none, which the search for any booking finds out at a fraction of the cost of adding up. No more
# bookings are read than are over any limit, since each has a ticket at least.
_OWNED = f"""
WITH of AS MATERIALIZED (SELECT value ->> 0 AS event, value ->> 1 AS ended, value -> 2 AS buyers FROM json_each(?))
SELECT of.event, wanted.value, (
    SELECT sum(owned) FROM (
        SELECT quantity - CASE WHEN instr(changes, '"cancel"') THEN (
            SELECT sum(json_array_length(value, '$[4]')) FROM json_each(changes) WHERE value ->> 0 = 'cancel'
        ) ELSE 0 END AS owned
        FROM bookings
        WHERE event = of.event AND buyer = wanted.value AND {IS_OWNED}
            AND NOT (state = 'held' AND expires <= of.ended)
        LIMIT {TICKETS_PER_BOOKING_MAX + 1}
    )
) AS owned
FROM of, json_each(of.buyers) AS wanted
WHERE EXISTS (
    SELECT 1 FROM bookings WHERE event = of.event AND buyer = wanted.value AND {IS_OWNED}
) AND owned NOTNULL
"""
_NEXT_QUANTITY = "SELECT min(quantity) FROM bookings WHERE event = ? AND state = 'waiting' AND quantity > ?"
_FIRST_IN_LINE = f"{_SELECT_BOOKINGS} WHERE event = ? AND state = 'waiting' AND quantity = ? ORDER BY version LIMIT ?"
_REMOVED = "SELECT event FROM json_each(?), removals WHERE event = value"

_encode = msgspec.json.Encoder().encode


def load(
    connection: apsw.Connection,
    reads: ReadSet,
    working_set: WorkingSet,
    events: Mapping[str, Event],
    *,
    serves_waiting_lists: bool,
) -> None:
    """Load what a batch reads, and add the events of its bookings to its read set. ``events`` are all events.

    ``serves_waiting_lists`` says that what is available is to be offered to those who wait. Raises one of UNREADABLE.
    """
    bookings = working_set.bookings
    if wanted := reads.bookings | reads.new_bookings if reads.bookings else reads.new_bookings:
        for row in _select(connection, _SELECT_BOOKINGS, wanted):
            bookings[row[0]] = booking_of(row)
        reads.events.update([booking.event for booking in bookings.values()])
    if serves_waiting_lists and (budgets := offer_budgets(reads, events, working_set)):
        _load_waiting_lists(connection, working_set, budgets)
        # Those whose turn comes must not have more than the limit by then.
        for booking in working_set.bookings.values():
            if booking.state == "waiting" and booking.buyer is not None:
                reads.buyers.setdefault(booking.event, set()).add(booking.buyer)
    if reads.page:
        _load_page(connection, reads, working_set, reads.page)
    if reads.redemptions or reads.redemptions_of:
        _load_redemptions(connection, reads, working_set)
    if reads.buyers or reads.buyers_of:
        _load_owned(connection, reads, working_set, events)
    if reads.removals:
        working_set.removed = {event for (event,) in connection.execute(_REMOVED, (_json(reads.removals),))}


def _select(connection: apsw.Connection, select: str, ids: Iterable[str]) -> Iterable[tuple[Any, ...]]:
    if len(ids := list(ids)) == 1:
        return connection.execute(f"{select} WHERE id = ?", ids)
    return connection.execute(f"{select} WHERE id IN (SELECT value FROM json_each(?))", (_json(ids),))


def _load_waiting_lists(connection: apsw.Connection, working_set: WorkingSet, budgets: Mapping[str, int]) -> None:
    for event, budget in budgets.items():
        waiting: list[Booking] = []
        quantity = connection.execute(_NEXT_QUANTITY, (event, 0)).get
        while quantity is not None and quantity <= budget:
            rows = connection.execute(_FIRST_IN_LINE, (event, quantity, budget // quantity))
            waiting += (working_set.bookings.setdefault(row[0], booking_of(row)) for row in rows)
            quantity = connection.execute(_NEXT_QUANTITY, (event, quantity)).get
        working_set.waiting_lists[event] = WaitingList(waiting, budget, math.inf if quantity is None else quantity)


def _load_page(connection: apsw.Connection, reads: ReadSet, working_set: WorkingSet, page: Page) -> None:
    # A statement that is not read to its end would block the next checkpoint; closing the cursor resets it.
    with closing(connection.cursor()) as cursor:
        searched = cursor.execute(_SEARCHED, (page.after,)).get if page.searches else None
        of = {"after": page.after, "searched": searched, "event": page.event, "buyer": page.buyer}
        working_set.fill_page(page, map(booking_of, cursor.execute(_PAGE, of)), searched)
    reads.redemptions_of.update(booking.id for booking in working_set.page)


def _load_redemptions(connection: apsw.Connection, reads: ReadSet, working_set: WorkingSet) -> None:
    rows: list[tuple[Any, ...]] = []
    if of := [id for id in reads.redemptions_of if id in working_set.bookings]:
        wanted = "booking IN (SELECT value FROM json_each(?))"
        rows += connection.execute(f"{_SELECT_REDEMPTIONS} WHERE {wanted}", (_json(of),))
    if tickets := [parts for parts in reads.redemptions if parts[0] in working_set.bookings]:
        wanted = "(booking, ticket) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
        rows += connection.execute(f"{_SELECT_REDEMPTIONS} WHERE {wanted}", (_json(tickets),))
    # A ticket that both queries found comes twice.
    working_set.add_redemptions(Redemption(*row) for row in sorted(set(rows), key=_in_order))


def _in_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[:3]


def _load_owned(
    connection: apsw.Connection, reads: ReadSet, working_set: WorkingSet, events: Mapping[str, Event]
) -> None:
    # A hold that is due counts as held only if it is not ended now.
    ended = dict.fromkeys(working_set.due, working_set.now)
    limited = reads.limited_buyers(events, working_set.bookings)
    wanted = [(id, ended.get(id, 0), buyers) for id, buyers in limited.items()]
    if wanted:
        for id, buyer, owned in connection.execute(_OWNED, (_json(wanted),)):
            working_set.count_owned(id, buyer, owned)


def _json(values: Iterable[object]) -> str:
    return _encode(list(values)).decode()
