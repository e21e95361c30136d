"""Who waits in line gets nothing that the terms of the sale forbid: off sale, over a limit, or too much at once."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tests.rules.cases import (
    DATE,
    LATE,
    Steps,
    codes,
    committed,
    decide,
    decide_batch,
    line_of,
    of,
    with_changes,
    working_set_after,
)
from tests.rules.lines import LINE, NO_TICKETS, SIX, offered, offered_in_all
from ticketd.model import milliseconds
from ticketd.rules.waiting import next_turn
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.replies import BookingReply, ChangeFacts, ErrorReply
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Create, Hold, Release, Show, Wait

HOUR = timedelta(hours=1)
OPENS = DATE + 2 * LATE
PAUSED: Steps = [*LINE, Amend("jazz", paused=True), Cancel("b")]


@pytest.mark.parametrize(
    "back", [Amend("jazz", paused=False), Amend("jazz", paused=False, opens=DATE, closes=OPENS), Amend("jazz", "Bebop")]
)
def test_nothing_is_offered_while_the_event_is_off_sale(back: Amend) -> None:
    rows = working_set_after(PAUSED)
    assert offered(rows, passed=HOUR) == []
    assert rows.events["jazz"].available == 6
    rows = working_set_after(PAUSED)
    assert offered(rows, Release("y-one"), back) == ([] if back.paused is UNSET else ["x-two"])


@pytest.mark.parametrize(("closes", "ids"), [(None, ["x-two"]), (OPENS + LATE, ["x-two"])])
def test_what_became_available_before_the_sale_opens_is_offered_when_it_does(closes: object, ids: list[str]) -> None:
    rows = working_set_after([*LINE, Amend("jazz", opens=OPENS, closes=closes), Release("h")])  # type: ignore[arg-type]
    event = rows.events["jazz"]
    assert next_turn(event, rows.now) == milliseconds(OPENS)
    assert offered(rows, passed=2 * LATE - timedelta(milliseconds=1)) == []
    assert offered(rows, passed=timedelta(milliseconds=1)) == ids
    assert next_turn(event, rows.now) is None


@pytest.mark.parametrize(
    "earlier",
    [
        # Nobody waits, nothing is available, it is paused, it will not open again.
        [*NO_TICKETS, Amend("jazz", opens=OPENS), Release("h")],
        [*LINE, Amend("jazz", opens=OPENS)],
        [*LINE, Amend("jazz", opens=OPENS, paused=True), Release("h")],
        [*LINE, Amend("jazz", opens=DATE, closes=DATE + LATE), LATE],
        [*LINE, Release("h")],
    ],
)
def test_nobody_waits_for_a_sale_to_open_that_has_nothing_for_them(earlier: Steps) -> None:
    rows = working_set_after(earlier)
    assert next_turn(rows.events["jazz"], rows.now) is None


# The limit of a buyer

TWO_EACH: Steps = [SIX, Amend("jazz", per_buyer=4), Book("jazz", 4, "b", "ben"), Book("jazz", 2, "c", "cleo")]


def test_what_somebody_waits_for_counts_for_the_limit() -> None:
    rows = working_set_after([*TWO_EACH, Wait("jazz", 1, 900, "w", "cleo")])
    replies = decide_batch(rows, Wait("jazz", 2, 900, "x", "cleo"), Wait("jazz", 1, 900, "y", "cleo"))
    assert codes(replies) == ["buyer_limit", None]
    assert isinstance(replies[0], ErrorReply)
    assert replies[0].left == 1
    # An offer changes nothing about it, and whoever leaves may have others instead.
    requests = [Cancel("b", of("b", 1)), Wait("jazz", 1, 900, "z", "cleo"), Release("y")]
    assert codes(decide_batch(rows, *requests, Wait("jazz", 1, 900, "z", "cleo"))) == [None, "buyer_limit", None, None]
    assert [booking.id for booking in line_of(rows, "jazz")] == ["z"]


@pytest.mark.parametrize(
    ("limit", "ids", "line"),
    [
        # Cleo has two and waits for two; Dan waits for one twice, and somebody without a name for one.
        (4, ["w", "x"], ["y", "n"]),
        (3, ["x", "y"], []),
        (1, ["y"], []),
        (None, ["w", "x"], ["y", "n"]),
    ],
)
def test_who_would_have_more_than_a_lower_limit_leaves_at_the_turn(
    limit: int | None, ids: list[str], line: list[str]
) -> None:
    rows = working_set_after(
        [
            *(SIX, Book("jazz", 4, "b", "ben"), Book("jazz", 2, "c", "cleo")),
            *(Wait("jazz", 2, 900, "w", "cleo"), Wait("jazz", 1, 900, "x", "dan")),
            *(Wait("jazz", 1, 900, "y", "dan"), Wait("jazz", 1, 900, "n")),
        ]
    )
    got = offered_in_all(rows, Amend("jazz", per_buyer=limit), Cancel("b", of("b", 1, 2, 3)))
    assert (got, [booking.id for booking in line_of(rows, "jazz")]) == (ids, line)
    assert rows.events["jazz"].waiting == len(line)


def test_who_leaves_at_the_turn_is_shown_why_nothing_came() -> None:
    rows = working_set_after([*NO_TICKETS, Wait("jazz", 1, 900, "w"), Amend("jazz", per_buyer=4)])
    decide_batch(rows, Release("i"))
    assert [booking.id for booking in rows.evicted] == ["w"]
    left = BookingReply("w", "jazz", 1, "released", [], 1, 7, DATE)
    assert decide(committed(rows), Show("w")) == with_changes(left, ChangeFacts("leave", DATE, 1, 7))


# More than one batch offers


def many(quantities: Iterable[int], capacity: int) -> WorkingSet:
    """Return an event that is sold out and paused, and has so many more tickets, and who waits for it."""
    rows = working_set_after([Create("Jazz", DATE, 1_000, "jazz"), Hold("jazz", 1_000, 60, "all")])
    decide_batch(rows, *(Wait("jazz", quantity, 900, f"w{place}") for place, quantity in enumerate(quantities)))
    decide_batch(rows, Amend("jazz", capacity=1_000 + capacity, paused=True))
    return rows


SALE = Amend("jazz", paused=False)


@given(
    st.lists(st.sampled_from([1, 2, 300, 333, 400, 999, 1_000]), min_size=4, max_size=20),
    st.integers(1_000, 4_000),
    st.sets(st.integers(0, 9), max_size=3),
)
def test_what_one_batch_does_not_offer_is_offered_in_order_by_the_next_ones(
    quantities: list[int], capacity: int, leave: set[int]
) -> None:
    rows = many(quantities, capacity)
    left, order = capacity, []
    leaving = [f"w{place}" for place in leave if place < len(quantities)]
    for booking in line_of(rows, "jazz"):
        if booking.quantity <= left and booking.id not in leaving:
            left -= booking.quantity
            order.append(booking.id)
    assert offered_in_all(rows, *map(Release, leaving), SALE) == order
    assert rows.events["jazz"].available == left


@pytest.mark.parametrize(
    ("quantities", "offers", "unserved"),
    [
        ([1_000], 1, False),
        ([1] * 1_000, 1_000, False),
        ([1] * 1_001, 1_000, True),
        ([999, 2], 1, True),
        ([500, 500], 2, False),
        ([300, 300, 400], 3, False),
        ([300, 300, 401], 2, True),
        # A small party does not overtake a large one, if there are tickets for both.
        ([999, 2, 1], 1, True),
        ([3] * 334 + [1], 333, True),
    ],
)
def test_a_batch_offers_a_thousand_tickets(quantities: list[int], offers: int, unserved: bool) -> None:
    rows = many(quantities, 5_000)
    assert offered(rows, SALE) == [f"w{place}" for place in range(offers)]
    assert bool(rows.unserved) == unserved


def test_until_all_in_line_are_served_nobody_else_gets_a_ticket() -> None:
    rows = many([800, 300], 5_000)
    public: list[LedgerRequest] = [Book("jazz", 1, "p"), Hold("jazz", 1, 60, "q"), Confirm("all", late=True)]
    replies = decide_batch(rows, SALE, *public, Wait("jazz", 1, 900, "last"), passed=LATE)
    assert codes(replies) == [None, "busy", "busy", "busy", None]
    assert [getattr(reply, "retry_after", None) for reply in replies[1:4]] == [0.1] * 3
    assert [getattr(reply, "state", None) for reply in replies[4:]] == ["waiting"]
    assert codes(decide_batch(rows, *public)) == [None, None, None]
    assert [rows.bookings[id].state for id in ("w1", "last", "p", "q", "all")] == [
        *("held", "held", "confirmed", "held", "confirmed"),
    ]


def test_who_is_served_by_the_next_batch_had_no_tickets_with_the_first_reply() -> None:
    rows = many([800], 5_000)
    wait = Wait("jazz", 300, 900, "last")
    decide_batch(rows, SALE, wait)
    assert offered(rows, passed=timedelta(milliseconds=1)) == ["last"]
    [reply] = decide_batch(rows, wait)
    assert isinstance(reply, BookingReply)
    assert (reply.state, reply.replayed) == ("waiting", True)


@pytest.mark.parametrize(("capacity", "ids"), [(400, ["w2"]), (5_000, ["w2", "late"])])
def test_who_joins_comes_after_those_whom_a_batch_has_not_read(capacity: int, ids: list[str]) -> None:
    rows = many([400, 400, 400], capacity)
    assert offered_in_all(rows, Release("w0"), Release("w1"), SALE, Wait("jazz", 400, 900, "late")) == ids
