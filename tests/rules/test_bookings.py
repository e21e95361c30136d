"""Holds that run out, and the counts of events whatever becomes of bookings."""

from datetime import timedelta
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.cases import (
    DATE,
    END,
    FIRST,
    HOLD,
    JAZZ,
    LATE,
    OLD,
    SECOND,
    Steps,
    booked,
    codes,
    committed,
    decide,
    ended,
    event,
    held,
    jazz,
    last_part,
    of,
    one,
    with_changes,
    working_set_after,
)
from ticketd.model import Change, Event, redeemed_at
from ticketd.rules.commands import decide_all
from ticketd.rules.memory import Memory
from ticketd.rules.new_bookings import is_refused, refuse
from ticketd.rules.showing import ticket_ids
from ticketd.rules.working_set import Adopt, LedgerRequest, WorkingSet
from ticketd.wire.replies import (
    BookingReply,
    ChangeFacts,
    ErrorReply,
)
from ticketd.wire.requests import (
    Annul,
    Book,
    Cancel,
    Confirm,
    Create,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Show,
)


def test_a_refusal_points_to_a_late_confirmation_only_if_the_tickets_are_there() -> None:
    late = committed(working_set_after([JAZZ, HOLD]), LATE)
    requests = [Confirm("h"), Book("jazz", 3, "b"), Confirm("h"), Confirm("h", late=True), Extend("h", 60)]
    there, *gone = [reply.message for reply in decide_all(late, requests) if isinstance(reply, ErrorReply)]
    assert there == "booking h ran out, 3 left; hold again, with a new id, or confirm h --late"
    assert set(gone) == {"booking h ran out, 0 left; wait jazz 2 joins the waiting list, with a new id"}


def test_the_rules_count_a_hold_until_exactly_its_expiry() -> None:
    before = working_set_after([JAZZ, HOLD])
    early = committed(before, LATE - timedelta(milliseconds=1))
    message = "event jazz has 1 left, fewer than 3; wait jazz 3 joins the waiting list"
    assert decide(early, Book("jazz", 3, "b")) == ErrorReply("sold_out", message, 1, 1)
    assert not early.changed
    late = committed(before, LATE)
    assert decide_all(late, [Confirm("h"), HOLD, Book("jazz", 3, "b")]) == [
        ErrorReply("hold_expired", "booking h ran out, 3 left; hold again, with a new id, or confirm h --late", 3, 2),
        held(1, 1, True),
        booked("b", of("b", 1, 2, 3), 0, 3, at=END),
    ]
    assert decide(late, Show("jazz")) == jazz(0, 0, 3, 3)
    assert decide(late, Show("h")) == with_changes(ended("expired", 3, 2), ChangeFacts("expire", END, 3, 2))
    assert list(late.changed_events) == ["jazz"]
    assert late.expired == {"jazz": Change("expire", 3, 2, late.now)}


def test_expired_holds_of_an_event_raise_its_version_once() -> None:
    working_set = committed(
        working_set_after([JAZZ, HOLD, Hold("jazz", 1, 5, "i"), OLD, Hold("old", 1, 60, "j")]), LATE
    )
    assert decide_all(working_set, []) == []
    assert [(each.id, each.available, each.held, each.version) for each in working_set.changed_events.values()] == [
        ("jazz", 3, 0, 3),
        ("old", 2, 0, 2),
    ]
    assert {booking.state for booking in working_set.bookings.values()} == {"expired"}
    now = working_set.now
    assert working_set.expired == {"jazz": Change("expire", 3, 3, now), "old": Change("expire", 2, 2, now)}
    # The ledger ends them all at once, not one by one.
    assert working_set.changed_bookings == {}


EVENT_IDS = st.sampled_from(["a", "b", "c"])
STEPS = st.builds(Create, st.sampled_from(["A", "B"]), st.just(DATE), st.integers(1, 12), EVENT_IDS) | st.builds(
    Book, EVENT_IDS, st.integers(1, 5), st.integers(1, 12).map(str)
)


@given(st.lists(STEPS, max_size=40))
def test_no_sequence_of_requests_ever_oversells(steps: list[LedgerRequest]) -> None:
    working_set = working_set_after([Create("A", DATE, 9, "a"), Adopt(event("b", 9, 5))])
    versions: dict[str, list[int]] = {}
    issued: list[str] = []
    for step in steps:
        reply = decide(working_set, step)
        if isinstance(reply, BookingReply) and not reply.replayed:
            versions.setdefault(reply.event, []).append(reply.version)
            issued += reply.tickets
        for each in working_set.events.values():
            assert each.sold + each.held + each.available == each.capacity
            assert min(each.sold, each.held, each.available) >= 0
            made = sum(len(booking.tickets) for booking in working_set.bookings.values() if booking.event == each.id)
            assert each.sold - each.sold_elsewhere == made
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())
    assert len(issued) == len(set(issued))
    theirs = [ticket_ids(booking, booking.tickets) for booking in working_set.bookings.values()]
    assert sorted(issued) == sorted(ticket for tickets in theirs for ticket in tickets)


def redeem(booking: str, number: int) -> Redeem:
    return Redeem(one(booking, number))


def cancel_some(booking: str, numbers: list[int]) -> Cancel:
    return Cancel(booking, of(booking, *numbers))


BOOKING_IDS = st.sampled_from(["1", "2", "3", "4", "5"])
CHANGES = st.one_of(
    st.builds(Book, EVENT_IDS, st.integers(1, 4), BOOKING_IDS),
    st.builds(Hold, EVENT_IDS, st.integers(1, 4), st.just(60), BOOKING_IDS),
    st.builds(Confirm, BOOKING_IDS),
    st.builds(Release, BOOKING_IDS),
    st.builds(Cancel, BOOKING_IDS),
    st.builds(cancel_some, BOOKING_IDS, st.lists(st.integers(1, 9), min_size=1, max_size=3)),
    st.builds(redeem, BOOKING_IDS, st.integers(1, 9)),
    st.builds(Redeem, BOOKING_IDS),
    st.builds(Annul, st.builds(one, BOOKING_IDS, st.integers(1, 9))),
    st.builds(Reissue, st.builds(one, BOOKING_IDS, st.integers(1, 9))),
    st.builds(Extend, BOOKING_IDS, st.sampled_from([1, 90])),
    st.builds(Confirm, BOOKING_IDS, st.just(True)),
    st.just(LATE),
)


@given(st.lists(CHANGES, min_size=10, max_size=40))
def test_events_always_count_exactly_what_bookings_have(steps: Steps) -> None:
    working_set = working_set_after([Create("A", DATE, 12, "a", 6), Create("B", DATE, 12, "b", 9)])
    for step in steps:
        working_set = committed(working_set, step if isinstance(step, timedelta) else timedelta(0))
        decide_all(working_set, [] if isinstance(step, timedelta) else [step])
        for each in working_set.events.values():
            assert each.sold + each.held + each.available == each.capacity
            assert min(each.sold - each.sold_elsewhere, each.sold_elsewhere, each.held, each.available) >= 0
            mine = [booking for booking in working_set.bookings.values() if booking.event == each.id]
            assert each.held == sum(booking.quantity for booking in mine if booking.state == "held")
            tickets = {booking.id: {*booking.tickets} - booking.cancelled() for booking in mine}
            assert each.sold - each.sold_elsewhere == sum(map(len, tickets.values()))
            assert all(len({*booking.tickets}) in (0, booking.quantity) for booking in mine)
            assert all(booking.cancelled() <= {*booking.tickets} for booking in mine)
            # What is used is of its booking, and is not cancelled.
            for booking in mine:
                histories = working_set.redemptions.get(booking.id, {})
                used = {ticket for ticket, history in histories.items() if redeemed_at(history) is not None}
                assert used <= tickets[booking.id]
                assert all(map(booking.had, histories))
    assert working_set.redemptions.keys() <= working_set.bookings.keys()


NOT_USED: Steps = [JAZZ, Book("jazz", 3, "b")]


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([Redeem(FIRST), Redeem(FIRST)], [None, "already_redeemed"]),
        ([Redeem(FIRST), Cancel("b", [FIRST])], [None, "already_redeemed"]),
        ([Redeem(FIRST), Cancel("b")], [None, "already_redeemed"]),
        ([Cancel("b", [FIRST]), Redeem(FIRST)], [None, "already_cancelled"]),
        ([Cancel("b"), Redeem(FIRST)], [None, "already_cancelled"]),
        ([Cancel("b", [FIRST]), Redeem(SECOND), Cancel("b")], [None, None, "already_redeemed"]),
    ],
)
def test_a_batch_sees_what_it_redeemed_and_cancelled_itself(
    requests: list[LedgerRequest], expected: list[str | None]
) -> None:
    assert codes(decide_all(working_set_after(NOT_USED), requests)) == expected


def test_the_tickets_of_a_booking_differ_even_if_chance_repeats() -> None:
    working_set = working_set_after([JAZZ])
    working_set.new_ticket = iter([*map(last_part, [7, 7, 8, 9, 8, 9, 5, 6, 7])]).__next__
    assert decide(working_set, Book("jazz", 3, "b")) == booked("b", of("b", 5, 6, 7), 0, 1)


class Settled:
    """What is_refused asks a memory for: these events, and whether nothing waits for them."""

    def __init__(self, working_set: WorkingSet, settled: bool) -> None:
        self._events = working_set.events
        self._now = working_set.now
        self._settled = settled

    def now(self) -> int:
        return self._now

    def event(self, event_id: str) -> Event | None:
        return self._events.get(event_id)

    def is_settled(self, event_id: str) -> bool:
        return self._settled


@pytest.mark.parametrize("new", [Book, Hold])
@given(event_id=EVENT_IDS, quantity=st.integers(1, 5), named=st.booleans(), settled=st.booleans())
def test_memory_refuses_just_what_a_commit_would_refuse(
    new: type[Book] | type[Hold], event_id: str, quantity: int, named: bool, settled: bool
) -> None:
    working_set = working_set_after([Create("A", DATE, 3, "a"), Create("B", DATE, 4, "b", 0), Hold("a", 1, 60, "h")])
    request = new(event_id, quantity, booking="n") if named else new(event_id, quantity)
    decided = decide(committed(working_set), msgspec.structs.replace(request, booking="n"))
    memory = cast(Memory, Settled(working_set, settled))
    refused = is_refused(memory, request)
    # A known id may stand for a booking that there is.
    assert refused == (isinstance(decided, ErrorReply) and settled and not named)
    if refused:
        assert refuse(memory, request) == decided
