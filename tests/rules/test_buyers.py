"""How many tickets a buyer may have, and that who buys is part of what makes a replay."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.cases import (
    DATE,
    LATE,
    Steps,
    codes,
    decide,
    decide_batch,
    of,
    one,
    refused,
    replayed,
    working_set_after,
)
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, ErrorReply
from ticketd.wire.requests import (
    Amend,
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
    Show,
)


def limited(per_buyer: int | None = 3, capacity: int = 9) -> Create:
    return Create("Jazz", DATE, capacity, "jazz", per_buyer=per_buyer)


def book(quantity: int, booking: str = "n", buyer: str = "anna") -> Book:
    return Book("jazz", quantity, booking, buyer)


def hold(quantity: int, booking: str = "h", buyer: str = "anna", seconds: int = 60) -> Hold:
    return Hold("jazz", quantity, seconds, booking, buyer)


# What a buyer did before, and how many tickets are left to it.
OWNED: list[tuple[str, Steps, int]] = [
    ("nothing", [], 3),
    ("booked", [book(2, "b")], 1),
    ("booked all", [book(3, "b")], 0),
    ("booked twice", [book(1, "b"), book(2, "c")], 0),
    ("held", [hold(2)], 1),
    ("held and booked", [hold(1), book(1, "b")], 1),
    ("confirmed", [hold(2), Confirm("h")], 1),
    ("extended", [hold(2), Extend("h", 90), LATE], 1),
    ("released", [hold(2), Release("h")], 3),
    ("ran out", [hold(2), LATE], 3),
    ("ran out, confirmed late", [hold(2), LATE, Confirm("h", late=True)], 1),
    ("cancelled", [book(2, "b"), Cancel("b")], 3),
    ("cancelled one", [book(3, "b"), Cancel("b", of("b", 2))], 1),
    ("reissued", [book(3, "b"), Reissue(one("b", 1))], 0),
    ("reissued and cancelled", [book(3, "b"), Reissue(one("b", 1)), Cancel("b")], 3),
    ("redeemed", [book(3, "b"), Redeem("b")], 0),
    ("of others", [book(3, "b", "ben"), book(3, "c", "anna ")], 3),
    (
        "without a buyer, before the limit",
        [Amend("jazz", per_buyer=None), Book("jazz", 3, "b"), Amend("jazz", per_buyer=3)],
        3,
    ),
    ("before the limit", [Amend("jazz", per_buyer=None), book(2, "b"), Amend("jazz", per_buyer=3)], 1),
    ("more than the limit", [Amend("jazz", per_buyer=None), book(5, "b"), Amend("jazz", per_buyer=3)], 0),
    ("before a lower limit", [Amend("jazz", per_buyer=5), book(4, "b"), Amend("jazz", per_buyer=3)], 0),
]


@pytest.mark.parametrize(("earlier", "left"), [pytest.param(*row, id=name) for name, *row in OWNED])
@pytest.mark.parametrize("new", [book, hold])
def test_a_buyer_has_no_more_than_the_limit(new: Any, earlier: Steps, left: int) -> None:
    earlier = [limited(), *earlier]
    available = working_set_after(earlier).events["jazz"].available
    if left < available:
        refusal = refused(earlier, new(left + 1, "n"))
        assert (refusal.code, refusal.left, refusal.available) == ("buyer_limit", left, available)
        assert f"may have {left or 'no'} more" in refusal.message
    if left:
        assert isinstance(decide(working_set_after(earlier), new(left, "n")), BookingReply)


def test_a_buyer_who_frees_tickets_in_a_batch_may_have_others() -> None:
    rows = working_set_after([limited(), book(3, "b"), hold(3, "h", "ben")])
    replies = decide_batch(
        rows,
        book(1, "c"),
        Cancel("b", of("b", 1, 2)),
        book(2, "c"),
        book(1, "d"),
        hold(1, "i", "ben"),
        Release("h"),
        hold(3, "i", "ben"),
        book(1, "e", "ben"),
    )
    assert codes(replies) == ["buyer_limit", None, None, "buyer_limit", "buyer_limit", None, None, "buyer_limit"]


def test_a_batch_in_which_holds_run_out_counts_them_no_more() -> None:
    rows = working_set_after([limited(), hold(3)])
    replies = decide_batch(rows, book(2, "b"), Confirm("h", late=True), book(1, "c"), passed=LATE)
    assert codes(replies) == [None, "buyer_limit", None]


def test_a_limit_that_the_same_batch_sets_counts_at_once() -> None:
    rows = working_set_after([limited(None), book(2, "b"), hold(1, "h", "ben"), hold(1, "i", "cleo", 30)])
    replies = decide_batch(
        rows,
        Book("jazz", 1, "c"),
        Amend("jazz", per_buyer=2),
        Book("jazz", 1, "d"),
        book(1, "e"),
        book(2, "f", "ben"),
        book(1, "f", "ben"),
        # What ran out counts no more; the hold that is made now does.
        Hold("jazz", 2, 60, "g", "cleo"),
        Confirm("i", late=True),
        passed=timedelta(seconds=30),
    )
    assert codes(replies) == [None, None, "bad_request", "buyer_limit", "buyer_limit", None, None, "buyer_limit"]


def test_a_limit_that_a_batch_lifts_counts_no_more() -> None:
    rows = working_set_after([limited(), book(3, "b")])
    assert codes(decide_batch(rows, book(1), Amend("jazz", per_buyer=None), book(1), Book("jazz", 1, "c"))) == [
        "buyer_limit",
        *[None] * 3,
    ]


def test_an_event_that_is_made_in_a_batch_limits_its_buyers() -> None:
    rows = working_set_after([limited(None)])
    replies = decide_batch(rows, Delete("jazz"), limited(2), book(2, "b"), book(1), Cancel("b"), book(2))
    assert codes(replies) == [None, None, None, "buyer_limit", None, None]


@pytest.mark.parametrize(
    ("earlier", "code", "left"),
    [
        ([limited(), hold(2), LATE, book(2, "b")], "buyer_limit", 1),
        ([limited(), hold(2), LATE, book(1, "b")], None, None),
        ([limited(), hold(2), LATE, book(3, "b", "ben")], None, None),
        # Who asks for what is not there is told that first.
        ([limited(capacity=3), hold(2), LATE, book(2, "b")], "hold_expired", None),
        ([limited(), hold(2), LATE, Amend("jazz", per_buyer=1)], "buyer_limit", 1),
        ([limited(None), Hold("jazz", 2, 60, "h"), LATE, Amend("jazz", per_buyer=1)], None, None),
        # In time it is confirmed, whatever the limit is now.
        ([limited(), hold(2), Amend("jazz", per_buyer=1)], None, None),
    ],
)
def test_a_late_confirm_keeps_to_the_limit(earlier: Steps, code: str | None, left: int | None) -> None:
    request = Confirm("h", late=True)
    if code is None:
        assert isinstance(decide(working_set_after(earlier), request), BookingReply)
    else:
        refusal = refused(earlier, request)
        assert (refusal.code, refusal.left) == (code, left)


@pytest.mark.parametrize("request_", [Book("jazz", 1, "n"), Hold("jazz", 1, 60, "n")])
def test_with_a_limit_a_booking_needs_a_buyer(request_: LedgerRequest) -> None:
    refusal = refused([limited()], request_)
    assert (refusal.code, "name the buyer" in refusal.message) == ("bad_request", True)


@pytest.mark.parametrize(
    ("made", "again"),
    [
        (book(2, "b"), book(2, "b", "ben")),
        (book(2, "b"), Book("jazz", 2, "b")),
        (Book("jazz", 2, "b"), book(2, "b")),
        (hold(2, "b"), hold(2, "b", "Anna")),
        (hold(2, "b"), Hold("jazz", 2, 60, "b")),
        (Hold("jazz", 2, 60, "b"), hold(2, "b")),
    ],
)
def test_a_booking_of_another_buyer_is_another_booking(made: Book, again: Book) -> None:
    replayed([limited(None), made], made)
    refusal = refused([limited(None), made], again)
    assert refusal.code == "booking_conflict"
    # It says what differs, and not who the other one is.
    assert "for another buyer" in refusal.message
    assert "anna" not in refusal.message


def test_a_replay_comes_even_if_the_limit_is_reached() -> None:
    reply = replayed([limited(), book(3, "b"), Amend("jazz", per_buyer=1)], book(3, "b"))
    assert isinstance(reply, BookingReply)
    assert (reply.buyer, reply.tickets) == ("anna", of("b", 1, 2, 3))


def test_a_booking_tells_its_buyer_whatever_becomes_of_it() -> None:
    rows = working_set_after([limited(), hold(2)])
    for request in (Extend("h", 90), Confirm("h"), Cancel("h"), Show("h"), hold(2)):
        reply = decide(rows, request)
        assert isinstance(reply, BookingReply)
        assert reply.buyer == "anna"


EVENTS = st.sampled_from(["a", "b"])
BUYERS = st.sampled_from(["x", "y"])
IDS = st.sampled_from("123456")
CHANGES = st.one_of(
    st.builds(Book, EVENTS, st.integers(1, 3), IDS, BUYERS),
    st.builds(Hold, EVENTS, st.integers(1, 3), st.just(60), IDS, BUYERS),
    st.builds(Confirm, IDS, st.booleans()),
    st.builds(Release, IDS),
    st.builds(Cancel, IDS),
    st.builds(lambda booking, number: Cancel(booking, of(booking, number)), IDS, st.integers(1, 9)),
    st.builds(lambda booking, number: Reissue(one(booking, number)), IDS, st.integers(1, 9)),
    st.builds(Amend, EVENTS, per_buyer=st.sampled_from([None, 2, 3])),
)
BATCHES = st.lists(st.tuples(st.sampled_from([timedelta(0), timedelta(0), LATE]), st.lists(CHANGES, max_size=5)))


@given(BATCHES)
def test_no_sequence_of_batches_takes_a_buyer_past_a_limit(batches: list[tuple[timedelta, list[Any]]]) -> None:
    rows = working_set_after([Create("A", DATE, 12, "a", per_buyer=3), Create("B", DATE, 12, "b")])
    for passed, requests in batches:
        before = owned(rows.bookings.values())
        replies = decide_batch(rows, *requests, passed=passed)
        for (event, buyer), count in owned(rows.bookings.values()).items():
            # Whoever had more when the limit was set keeps it, and gets no more.
            limits = [each.per_buyer for each in requests if isinstance(each, Amend) and each.event == event]
            limit = rows.events[event].per_buyer
            if limit is not None and not limits:
                assert count <= max(limit, before.get((event, buyer), 0))
        for request, reply in zip(requests, replies, strict=True):
            if isinstance(reply, ErrorReply) and reply.code == "buyer_limit":
                assert isinstance(request, Book | Hold | Confirm)
                assert reply.left is not None
                assert 0 <= reply.left < 3


def owned(bookings: Any) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for booking in bookings:
        live = {"held": booking.quantity, "confirmed": len({*booking.tickets} - booking.cancelled())}
        key = booking.event, booking.buyer
        counts[key] = counts.get(key, 0) + live.get(booking.state, 0)
    return counts
