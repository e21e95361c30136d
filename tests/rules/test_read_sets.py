"""A batch is decided as if the whole ledger had been read: its read set names all that matters."""

from copy import deepcopy
from datetime import timedelta
from itertools import count
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.rules.cases import DATE, LATE, committed, decide_batch, last_part, loaded, one, working_set_after
from ticketd.model import Event
from ticketd.rules.commands import decide_all
from ticketd.rules.working_set import Adopt, WorkingSet
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Wait,
)

EVENTS = st.sampled_from("abc")
BUYERS = st.sampled_from("xy")
IDS = st.sampled_from("12345")
TICKETS = st.builds(one, IDS, st.integers(1, 12))
SCANS = st.sampled_from("st")
SOON = st.sampled_from([None, DATE, DATE + LATE, DATE + 2 * LATE])
LIMITS = st.sampled_from([None, 1, 3])


def adopt(event_id: str) -> Adopt:
    return Adopt(Event(event_id, "Old", DATE, 6, 6, 0, 0, 0, 0))


CHANGES = st.one_of(
    st.builds(Create, st.just("A"), st.just(DATE), st.just(6), EVENTS, per_buyer=LIMITS, opens=SOON),
    st.builds(adopt, EVENTS),
    st.builds(Book, EVENTS, st.integers(1, 3), IDS, BUYERS),
    st.builds(Book, EVENTS, st.integers(1, 3), IDS),
    st.builds(Hold, EVENTS, st.integers(1, 3), st.sampled_from([30, 60]), IDS, BUYERS),
    st.builds(Wait, EVENTS, st.integers(1, 3), st.sampled_from([30, 60]), IDS, BUYERS),
    st.builds(Wait, EVENTS, st.integers(1, 3), st.just(60), IDS),
    st.builds(Extend, IDS, st.sampled_from([60, 90])),
    st.builds(Confirm, IDS, st.booleans()),
    st.builds(Release, IDS),
    st.builds(Cancel, IDS),
    st.builds(lambda ticket: Cancel(ticket.partition(".")[0], [ticket]), TICKETS),
    st.builds(Reissue, TICKETS),
    st.builds(lambda ticket, scan: Redeem(ticket, scan=scan), TICKETS | IDS, SCANS),
    st.builds(Annul, TICKETS),
    st.builds(lambda event, paused: Amend(event, paused=paused), EVENTS, st.booleans()),
    st.builds(lambda event, limit: Amend(event, per_buyer=limit), EVENTS, LIMITS),
    st.builds(lambda event, capacity: Amend(event, capacity=capacity), EVENTS, st.integers(5, 9)),
    st.builds(Delete, EVENTS),
)
PASSED = st.sampled_from([timedelta(0), timedelta(0), LATE / 2, LATE])


def whole(rows: WorkingSet, passed: timedelta) -> WorkingSet:
    """Return a working set with everything in it, whatever is needed."""
    working_set = committed(rows, passed)
    working_set.owned = {(event, buyer): 0 for event in working_set.events for buyer in "xy"}
    for booking in working_set.bookings.values():
        ended = booking.state == "held" and (booking.expires or 0) <= working_set.now
        if booking.buyer is not None and not ended:
            working_set.owned[booking.event, booking.buyer] += booking.owned()
    return working_set


NOW = timedelta(0)
LEAVE = "leave"


# What chance hardly ever finds: a limit of the same batch, for buyers who had tickets before.
@example([(NOW, [Amend("b", per_buyer=3), Book("b", 2, "5", "x"), Book("b", 2, "4", "y")])])
@example([(LATE, [Amend("b", per_buyer=1), Confirm("2", late=True)])])
@example([(NOW, [Book("b", 1, "4", "x")]), (LATE, [Amend("b", per_buyer=2), Confirm("2", late=True)])])
@example([(NOW, [Amend("b", per_buyer=2)]), (NOW, [Book("b", 1, "4", "y")]), (LATE, [Confirm("2", late=True)])])
# Who waits leaves at the turn: the buyer has tickets.
@example([(NOW, [Wait("b", 3, 60, "4", "y")]), (NOW, [Amend("b", per_buyer=1)]), (LATE, [Book("a", 1, "5")])])
@example([(NOW, [Wait("b", 3, 60, "4", "y")]), (NOW, [Amend("b", per_buyer=1), Release("2")])])
@example([(NOW, [Book("b", 2, "4")]), (NOW, [Wait("b", 3, 60, "5", "y")]), (NOW, [Amend("b", capacity=9)])])
@example([(NOW, [Book("b", 2, "4")]), (NOW, [Wait("b", 2, 60, "5")]), (NOW, [Cancel("4")]), (LATE, [Confirm("5")])])
@given(st.lists(st.tuples(PASSED, st.lists(CHANGES, min_size=1, max_size=6)), max_size=8))
def test_a_batch_is_decided_as_if_everything_were_read(batches: list[tuple[timedelta, list[Any]]]) -> None:
    rows = working_set_after(
        [
            Create("A", DATE, 6, "a", per_buyer=3),
            Create("B", DATE, 6, "b"),
            Book("a", 2, "1", "x"),
            Hold("b", 2, 30, "2", "x"),
            Book("b", 2, "3", "y"),
        ]
    )
    # The tickets of before are these of all.
    start = 5
    for passed, requests in batches:
        some, all_ = loaded(rows, requests, passed), whole(rows, passed)
        some.new_ticket = map(last_part, count(start)).__next__
        all_.new_ticket = map(last_part, count(start)).__next__
        adopted = deepcopy(requests)
        replies = decide_all(some, requests)
        if some.unserved:
            # The next batch has read more of the line.
            assert LEAVE in {change.what for booking in some.bookings.values() for change in booking.changes or ()}
            return
        assert replies == decide_all(all_, adopted)
        assert some.changed_events == all_.changed_events
        assert some.changed_bookings == all_.changed_bookings
        assert some.new_redemptions == all_.new_redemptions
        assert some.deleted_events == all_.deleted_events
        issued = count(start)
        rows.new_ticket = map(last_part, issued).__next__
        decide_batch(rows, *requests, passed=passed)
        start = next(issued)
        check(rows)


def check(rows: WorkingSet) -> None:
    for event in rows.events.values():
        mine = [booking for booking in rows.bookings.values() if booking.event == event.id]
        assert event.sold + event.held + event.available == event.capacity
        assert min(event.sold, event.held, event.available) >= 0
        assert event.held == sum(booking.quantity for booking in mine if booking.state == "held")
        assert event.waiting == sum(booking.state == "waiting" for booking in mine)
        valid = [{*booking.tickets} - booking.cancelled() for booking in mine]
        assert event.sold - event.sold_elsewhere == sum(map(len, valid))
    # An event of which anything was sold or held is never removed.
    assert {booking.event for booking in rows.bookings.values()} <= rows.events.keys()
