"""What happens before a request, and the replies that are expected after it."""

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec

from ticketd.model import Booking, BookingState, Event, milliseconds
from ticketd.rules.commands import TABLE, decide_all, read_set
from ticketd.rules.waiting import next_turn, offer_budgets
from ticketd.rules.waiting_list import WaitingList
from ticketd.rules.working_set import Adopt, LedgerRequest, WorkingSet
from ticketd.wire.replies import (
    BookingReply,
    ChangeFacts,
    ErrorReply,
    EventReply,
    Reply,
)
from ticketd.wire.requests import Book, Cancel, Confirm, Create, Hold, Release

DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)
END = DATE + timedelta(seconds=60)
LATE = timedelta(seconds=60)
JAZZ = Create("Jazz", DATE, 3, "jazz")
BOOK = Book("jazz", 2, "b")
HOLD = Hold("jazz", 2, 60, "h")

# What happens before a request: other requests, and time that passes.
Steps = list[LedgerRequest | timedelta]


def last_part(number: int) -> str:
    """Return the last part of the id of the ticket that is issued as this one of all."""
    return f"{number:012x}"


def of(booking: str, *numbers: int) -> list[str]:
    """Return the ids of tickets of a booking, which were issued as these of all."""
    return [f"{booking}.{last_part(number)}" for number in numbers]


def one(booking: str, number: int) -> str:
    """Return the id of one ticket."""
    return of(booking, number)[0]


def event(event_id: str, capacity: int, available: int) -> Event:
    sold = capacity - available
    return Event(event_id, "Old", DATE, capacity, available, 0, sold, 0, sold)


def decide(working_set: WorkingSet, request: LedgerRequest) -> Reply:
    """Return the reply to a request, whether it is decided in a commit or read."""
    if read := TABLE[type(request)].read:
        return read(working_set, request)
    return decide_all(working_set, [request])[0]


def committed(working_set: WorkingSet, passed: timedelta = timedelta(0)) -> WorkingSet:
    """Return the working set as a ledger fills it some time after a commit: the same rows, none of them changed."""
    fresh = WorkingSet(working_set.new_ticket, working_set.now + round(passed / timedelta(milliseconds=1)))
    fresh.events, fresh.bookings, fresh.redemptions = deepcopy(
        (working_set.events, working_set.bookings, working_set.redemptions)
    )
    fresh.removed, fresh.hold_seconds_total_max = {*working_set.removed}, working_set.hold_seconds_total_max
    for booking in fresh.bookings.values():
        if booking.state == "held" and booking.expires is not None and booking.expires <= fresh.now:
            fresh.due[booking.event] = fresh.due.get(booking.event, 0) + booking.quantity
            continue
        if booking.buyer is not None and fresh.events[booking.event].per_buyer is not None:
            fresh.own(booking.event, booking.buyer, booking.owned())
    for event in fresh.events.values():
        if event.waiting:
            waiting = line_of(fresh, event.id)
            fresh.waiting_lists[event.id] = WaitingList(waiting)
            fresh.positions |= {booking.id: position for position, booking in enumerate(waiting, 1)}
    return fresh


def line_of(rows: WorkingSet, event: str) -> list[Booking]:
    """Return who waits for an event, the first one first."""
    waiting = [booking for booking in rows.bookings.values() if (booking.event, booking.state) == (event, "waiting")]
    return sorted(waiting, key=lambda booking: booking.version)


def loaded(rows: WorkingSet, requests: Iterable[LedgerRequest], passed: timedelta = timedelta(0)) -> WorkingSet:
    """Return the working set for a batch some time later, with no rows in it but those that its read set names."""
    full = committed(rows, passed)
    reads = read_set(requests)
    for event in full.events.values():
        # Who waits may be offered tickets by now.
        turn = next_turn(event, rows.now)
        if event.id in rows.unserved or (turn is not None and turn <= full.now):
            reads.turns.add(event.id)
    reads.events |= full.due.keys() | reads.turns
    some = WorkingSet(full.new_ticket, full.now)
    some.due, some.hold_seconds_total_max = full.due, full.hold_seconds_total_max
    some.removed = full.removed & reads.removals
    some.bookings = {id: full.bookings[id] for id in reads.bookings | reads.new_bookings if id in full.bookings}
    named = {*reads.events, *(booking.event for booking in some.bookings.values())}
    some.events = {id: full.events[id] for id in named if id in full.events}
    for id, tickets in offer_budgets(reads, some.events, some).items():
        of_quantity: dict[int, list[Booking]] = {}
        for booking in line_of(full, id):
            of_quantity.setdefault(booking.quantity, []).append(some.bookings.get(booking.id, booking))
        read = [each for quantity, waits in of_quantity.items() for each in waits[: tickets // quantity]]
        some.bookings |= {booking.id: booking for booking in read}
        some.waiting_lists[id] = WaitingList(
            read, tickets, min((each for each in of_quantity if each > tickets), default=math.inf)
        )
    for booking in some.bookings.values():
        if booking.state == "waiting" and booking.buyer is not None:
            reads.buyers.setdefault(booking.event, set()).add(booking.buyer)
    for id in reads.redemptions_of & some.bookings.keys():
        some.redemptions[id] = full.redemptions.get(id, {})
    for id, ticket in reads.redemptions:
        if id in some.bookings and (history := full.history(id, ticket)):
            some.redemptions.setdefault(id, {})[ticket] = [*history]
    for id, buyers in reads.limited_buyers(full.events, some.bookings).items():
        for buyer in buyers:
            theirs = [each for each in full.bookings.values() if (each.event, each.buyer) == (id, buyer)]
            ended = [each for each in theirs if each.state == "held" and (each.expires or 0) <= full.now]
            some.count_owned(id, buyer, sum(each.owned() for each in theirs if each not in ended))
    return some


def decide_batch(rows: WorkingSet, *requests: LedgerRequest, passed: timedelta = timedelta(0)) -> list[Reply]:
    """Decide a batch from what its read set names, and keep in ``rows`` what it changed."""
    some = loaded(rows, requests, passed)
    replies = decide_all(some, requests)
    rows.now = some.now
    for id in some.deleted_events:
        rows.events.pop(id, None)
    rows.removed |= some.deleted_events
    rows.events |= some.changed_events
    rows.bookings |= some.changed_bookings
    for booking in rows.bookings.values():
        ended = some.expired.get(booking.event)
        if ended and booking.state == "held" and (booking.expires or 0) <= rows.now:
            booking.state, booking.changes = "expired", [*(booking.changes or ()), ended]
    rows.add_redemptions(some.new_redemptions)
    rows.unserved, rows.offered, rows.evicted = some.unserved, some.offered, some.evicted
    return replies


def codes(replies: Iterable[Reply]) -> list[str | None]:
    """Return the codes of refusals; None for each other reply."""
    return [reply.code if isinstance(reply, ErrorReply) else None for reply in replies]


def refused(earlier: Steps, request: LedgerRequest) -> ErrorReply:
    """Return the refusal of a request, which has changed nothing."""
    working_set = working_set_after(earlier)
    before = committed(working_set)
    refusal = decide(working_set, request)
    assert isinstance(refusal, ErrorReply), refusal
    assert not working_set.changed
    assert without_waiting_lists(working_set) == without_waiting_lists(before)
    return refusal


def replayed(earlier: Steps, request: LedgerRequest) -> Reply:
    """Return the reply to a request, which is one of before and has changed nothing."""
    working_set = working_set_after(earlier)
    before = committed(working_set)
    reply = decide(working_set, request)
    assert getattr(reply, "replayed", False), reply
    assert not working_set.changed
    # A great booking that is shown again counts too.
    before.tickets_listed = working_set.tickets_listed
    assert without_waiting_lists(working_set) == without_waiting_lists(before)
    return reply


def without_waiting_lists(working_set: WorkingSet) -> dict[str, object]:
    """Return what is in a working set, except the waiting lists, which are built again from its bookings."""
    return {**vars(working_set), "waiting_lists": None}


def with_changes(reply: BookingReply, *changes: ChangeFacts) -> BookingReply:
    """Return a reply as ``show`` gives it, with the history of its booking."""
    return msgspec.structs.replace(reply, changes=changes)


def working_set_after(earlier: Steps) -> WorkingSet:
    working_set = WorkingSet(map(last_part, count(1)).__next__, milliseconds(DATE))
    for step in earlier:
        if isinstance(step, timedelta):
            working_set = committed(working_set, step)
            decide_all(working_set, [])
        else:
            assert not isinstance(decide(working_set, step), ErrorReply)
        working_set = committed(working_set)
    return working_set


def jazz(available: int, held: int, sold: int, version: int, replayed: bool = False) -> EventReply:
    capacity = available + held + sold
    return EventReply("jazz", "Jazz", DATE, capacity, available, held, sold, version, replayed=replayed)


def booked(
    booking: str,
    tickets: list[str],
    available: int,
    version: int,
    replayed: bool = False,
    gone: Sequence[str] = (),
    used: Sequence[str] = (),
    at: datetime = DATE,
    admitted: Sequence[str] = (),
) -> BookingReply:
    state: BookingState = "cancelled" if gone == tickets else "confirmed"
    reply = BookingReply(booking, "jazz", len(tickets), state, tickets, available, version, at, replayed=replayed)
    if gone:
        reply.cancelled = gone
    if used:
        reply.redeemed = used
        reply.redeemed_at = [DATE] * len(used)
    reply.admitted = admitted
    return reply


def held(available: int, version: int, replayed: bool = False) -> BookingReply:
    return BookingReply("h", "jazz", 2, "held", [], available, version, DATE, END, replayed=replayed)


def ended(state: BookingState, available: int, version: int, replayed: bool = False) -> BookingReply:
    return BookingReply("h", "jazz", 2, state, [], available, version, DATE, replayed=replayed)


MINE = of("b", 1, 2)
FIRST, SECOND = MINE
SOLD: Steps = [JAZZ, BOOK]
HELD: Steps = [JAZZ, HOLD]
CONFIRMED: Steps = [*HELD, Confirm("h")]
RELEASED: Steps = [*HELD, Release("h")]
EXPIRED: Steps = [*HELD, LATE]
ONE_GONE: Steps = [*SOLD, Cancel("b", [SECOND])]
ALL_GONE: Steps = [*SOLD, Cancel("b")]
FULL: Steps = [*HELD, Book("jazz", 1, "b")]
OLD = Adopt(event("old", 3, 2))
PARTLY = Create("Jazz", DATE, 3, "jazz", 2)
# Bookings whose ids begin alike, the third one's with the id of the first one's ticket.
NAMESAKES: Steps = [JAZZ, Book("jazz", 1, "jazz")]
POINTS: Steps = [JAZZ, Book("jazz", 1, "a"), Book("jazz", 1, "a.b"), Book("jazz", 1, one("a", 1))]
