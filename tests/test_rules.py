from copy import deepcopy
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketd.model import Event
from ticketd.protocol import Book, BookingReply, Create, ErrorReply, EventReply, Reply, Show, TicketReply
from ticketd.rules import Adopt, Books, LedgerRequest, Needs, decide

DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)
JAZZ = Create("Jazz", DATE, 3, "jazz")


def event(event_id: str, capacity: int, available: int) -> Event:
    sold = capacity - available
    return Event(event_id, "Old", DATE, capacity, available, 0, sold, 0, sold)


def committed(books: Books) -> Books:
    """Return new books as a store fills them after a commit: with the same rows, none of them changed."""
    fresh = Books(books.new_id)
    fresh.events, fresh.bookings, fresh.tickets = deepcopy((books.events, books.bookings, books.tickets))
    return fresh


def books_after(earlier: list[LedgerRequest]) -> Books:
    books = Books((f"t{number}" for number in count(1)).__next__)
    for request in earlier:
        assert not isinstance(decide(books, request), ErrorReply)
    return committed(books)


def booked(booking: str, tickets: list[str], available: int, version: int, replayed: bool = False) -> BookingReply:
    return BookingReply(booking, "jazz", len(tickets), "confirmed", tickets, available, version, replayed)


DONE: list[tuple[str, list[LedgerRequest], LedgerRequest, Reply]] = [
    ("create", [], JAZZ, EventReply("jazz", "Jazz", DATE, 3, 3, 0, 0, 0)),
    ("adopt", [], Adopt(event("old", 9, 4)), EventReply("old", "Old", DATE, 9, 4, 0, 5, 0)),
    ("book", [JAZZ], Book("jazz", 2, "b"), booked("b", ["t1", "t2"], 1, 1)),
    ("book all", [JAZZ], Book("jazz", 3, "b"), booked("b", ["t1", "t2", "t3"], 0, 1)),
    ("book the last", [JAZZ, Book("jazz", 2, "a")], Book("jazz", 1, "b"), booked("b", ["t3"], 0, 2)),
]
READ: list[tuple[str, list[LedgerRequest], LedgerRequest, Reply]] = [
    ("book again", [JAZZ, Book("jazz", 1, "b")], Book("jazz", 1, "b"), booked("b", ["t1"], 2, 1, True)),
    (
        "book again when later bookings have taken the rest",
        [JAZZ, Book("jazz", 1, "b"), Book("jazz", 2, "later")],
        Book("jazz", 1, "b"),
        booked("b", ["t1"], 2, 1, True),
    ),
    ("create again", [JAZZ], JAZZ, EventReply("jazz", "Jazz", DATE, 3, 3, 0, 0, 0, True)),
    (
        "create again when some are sold",
        [JAZZ, Book("jazz", 2, "b")],
        JAZZ,
        EventReply("jazz", "Jazz", DATE, 3, 3, 0, 0, 0, True),
    ),
    (
        "adopt what the ledger knows",
        [JAZZ, Book("jazz", 2, "b")],
        Adopt(event("jazz", 9, 9)),
        EventReply("jazz", "Jazz", DATE, 3, 1, 0, 2, 1),
    ),
    ("show an event", [JAZZ, Book("jazz", 2, "b")], Show("jazz"), EventReply("jazz", "Jazz", DATE, 3, 1, 0, 2, 1)),
    (
        "show a booking",
        [JAZZ, Book("jazz", 1, "b"), Book("jazz", 1, "c")],
        Show("b"),
        booked("b", ["t1"], 2, 1),
    ),
    ("show a ticket", [JAZZ, Book("jazz", 2, "b")], Show("t2"), TicketReply("t2", "jazz", "b", "valid")),
    (
        "an event comes first",
        [JAZZ, Book("jazz", 1, "jazz")],
        Show("jazz"),
        EventReply("jazz", "Jazz", DATE, 3, 2, 0, 1, 1),
    ),
]
OLD = Adopt(event("old", 3, 2))
REFUSED: list[tuple[str, list[LedgerRequest], LedgerRequest, ErrorReply]] = [
    ("no such event", [JAZZ], Book("nope", 1, "b"), ErrorReply("event_not_found", "nope")),
    ("more than there are", [JAZZ], Book("jazz", 4, "b"), ErrorReply("sold_out", "3 left", 3, 0)),
    (
        "more than are left",
        [JAZZ, Book("jazz", 2, "a")],
        Book("jazz", 2, "b"),
        ErrorReply("sold_out", "1 left, fewer than 2", 1, 1),
    ),
    (
        "none are left",
        [JAZZ, Book("jazz", 2, "a"), Book("jazz", 1, "b")],
        Book("jazz", 1, "c"),
        ErrorReply("sold_out", "no tickets left", 0, 2),
    ),
    ("sold elsewhere", [OLD], Book("old", 3, "b"), ErrorReply("sold_out", "2 left", 2, 0)),
    (
        "id of a booking of another quantity",
        [JAZZ, Book("jazz", 1, "b")],
        Book("jazz", 2, "b"),
        ErrorReply("booking_conflict", "1 of event jazz"),
    ),
    (
        "id of a booking of another event",
        [JAZZ, OLD, Book("jazz", 1, "b")],
        Book("old", 1, "b"),
        ErrorReply("booking_conflict", "1 of event jazz"),
    ),
    (
        "id of a booking, and no such event",
        [JAZZ, Book("jazz", 1, "b")],
        Book("nope", 1, "b"),
        ErrorReply("booking_conflict", "1 of event jazz"),
    ),
    ("id of another name", [JAZZ], Create("Jazz!", DATE, 3, "jazz"), ErrorReply("event_exists", "jazz")),
    ("id of another date", [JAZZ], Create("Jazz", DATE.replace(day=12), 3, "jazz"), ErrorReply("event_exists", "jazz")),
    ("id of another capacity", [JAZZ], Create("Jazz", DATE, 4, "jazz"), ErrorReply("event_exists", "jazz")),
    ("id of one sold elsewhere", [OLD], Create("Old", DATE, 3, "old"), ErrorReply("event_exists", "old")),
    ("show nothing", [JAZZ], Show("nope"), ErrorReply("not_found", "nope")),
]


def rows(table: list[tuple[str, list[LedgerRequest], LedgerRequest, Reply]]) -> list[object]:
    return [pytest.param(*row, id=name) for name, *row in table]


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(DONE))
def test_what_is_done_is_answered_and_noted_to_be_saved(
    earlier: list[LedgerRequest], request_: LedgerRequest, reply: BookingReply | EventReply
) -> None:
    books = books_after(earlier)
    assert decide(books, request_) == reply
    assert books.changed
    if isinstance(reply, BookingReply):
        assert list(books.changed_events) == [reply.event]
        assert list(books.changed_bookings) == [reply.id]
        assert list(books.changed_tickets) == reply.tickets
        assert {(ticket.event, ticket.booking) for ticket in books.changed_tickets.values()} == {("jazz", reply.id)}
    else:
        assert list(books.changed_events) == [reply.id]
        assert not books.changed_bookings
        assert not books.changed_tickets


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(READ))
def test_what_is_known_is_answered_and_changes_nothing(
    earlier: list[LedgerRequest], request_: LedgerRequest, reply: Reply
) -> None:
    books = books_after(earlier)
    before = committed(books)
    assert decide(books, request_) == reply
    assert vars(books) == vars(before)


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows([*REFUSED]))
def test_a_refusal_says_why_and_changes_nothing(
    earlier: list[LedgerRequest], request_: LedgerRequest, reply: ErrorReply
) -> None:
    books = books_after(earlier)
    before = committed(books)
    refusal = decide(books, request_)
    assert isinstance(refusal, ErrorReply)
    assert (refusal.code, refusal.available, refusal.version) == (reply.code, reply.available, reply.version)
    assert reply.message in refusal.message
    assert not books.changed
    assert vars(books) == vars(before)


@pytest.mark.parametrize(
    ("request_", "events", "bookings", "tickets"),
    [
        (Book("e", 1, "b"), {"e"}, {"b"}, set()),
        (JAZZ, {"jazz"}, set(), set()),
        (Adopt(event("e", 1, 1)), {"e"}, set(), set()),
        (Show("x"), {"x"}, {"x"}, {"x"}),
    ],
)
def test_everything_that_a_decision_looks_at_is_needed(
    request_: LedgerRequest, events: set[str], bookings: set[str], tickets: set[str]
) -> None:
    needs = Needs([request_, request_])
    assert (needs.events, needs.bookings, needs.tickets) == (events, bookings, tickets)


EVENT_IDS = st.sampled_from(["a", "b", "c"])
STEPS = st.builds(Create, st.sampled_from(["A", "B"]), st.just(DATE), st.integers(1, 12), EVENT_IDS) | st.builds(
    Book, EVENT_IDS, st.integers(1, 5), st.integers(1, 12).map(str)
)


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=40))
def test_no_sequence_of_requests_ever_oversells(steps: list[LedgerRequest]) -> None:
    books = books_after([Create("A", DATE, 9, "a"), Adopt(event("b", 9, 5))])
    versions: dict[str, list[int]] = {}
    issued: list[str] = []
    for step in steps:
        reply = decide(books, step)
        if isinstance(reply, BookingReply) and not reply.replayed:
            versions.setdefault(reply.event, []).append(reply.version)
            issued += reply.tickets
        for each in books.events.values():
            assert each.sold + each.held + each.available == each.capacity
            assert min(each.sold, each.held, each.available) >= 0
            made = sum(ticket.event == each.id for ticket in books.tickets.values())
            assert each.sold - each.sold_elsewhere == made
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())
    assert len(issued) == len(set(issued))
    assert sorted(issued) == sorted(books.tickets)
    assert sorted(issued) == sorted(ticket for booking in books.bookings.values() for ticket in booking.tickets)
