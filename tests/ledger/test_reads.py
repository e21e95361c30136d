"""What is read between commits, from either ledger."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tests.ledgers import STORAGES, Storage, new_storage, read, result_of, transact
from ticketd.ledger.base import Ledger
from ticketd.model import ticket_parts
from ticketd.wire.replies import BookingReply, BookingsReply, ErrorReply, Reply, TicketReply
from ticketd.wire.requests import Book, Bookings, Cancel, Confirm, Create, Hold, Redeem, Request, Show

JAZZ = Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 100_000, "jazz")
SIZES = {"a": 600, "b": 400, "c": 1, "e": 1_000, "f": 999}


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest) -> Storage:
    """An empty ledger of each kind."""
    return new_storage(request)


@pytest.fixture
async def ledger(storage: Storage) -> AsyncIterator[Ledger]:
    ledger = await storage.open()
    await transact(ledger, [JAZZ])
    yield ledger
    await ledger.close()


def pages_of(replies: list[Reply]) -> list[tuple[list[str], bool]]:
    pages = [reply for reply in replies if isinstance(reply, BookingsReply)]
    return [([booking.id for booking in page.bookings], page.more) for page in pages]


async def test_a_page_ends_before_it_has_more_than_1000_tickets(ledger: Ledger) -> None:
    await transact(ledger, [Book("jazz", quantity, id) for id, quantity in SIZES.items()])
    # What is only held has no tickets.
    await transact(ledger, [Hold("jazz", 1_000, 60, "d"), Hold("jazz", 1_000, 60, "g")])
    replies = await read(ledger, [Bookings(), *(Bookings(after) for after in "bdefg"), Bookings("c", 2)])
    assert pages_of(replies) == [
        (["a", "b"], True),
        (["c", "d"], True),
        (["e"], True),
        (["f", "g"], False),
        (["g"], False),
        ([], False),
        (["d", "e"], True),
    ]


async def test_a_page_has_at_most_as_many_bookings_as_asked_for(ledger: Ledger) -> None:
    await transact(ledger, [Book("jazz", 1, id) for id in "abcde"])
    replies = await read(ledger, [Bookings(limit=5), Bookings(limit=4), Bookings("a", 3), Bookings("b", 3)])
    assert pages_of(replies) == [([*"abcde"], False), ([*"abcd"], True), ([*"bcd"], True), ([*"cde"], False)]


async def test_a_booking_of_1000_tickets_is_redeemed_and_cancelled_in_parts(storage: Storage) -> None:
    ledger = await storage.open()
    _, booked = (await transact(ledger, [JAZZ, Book("jazz", 1_000, "large")])).replies
    assert isinstance(booked, BookingReply)
    first, second, *others = booked.tickets
    assert len({ticket_parts(ticket) for ticket in booked.tickets}) == 1_000
    changes = [Redeem(first), Cancel("large", others[:190]), Cancel("large", others[190:380])]
    replies = (await transact(ledger, changes)).replies
    assert not [reply for reply in replies if isinstance(reply, ErrorReply)]
    # What is opened next finds all of it.
    await storage.crash(ledger)
    again = await storage.open()
    shown, ticket, other, gone = await read(again, [Show("large"), Show(first), Show(second), Show(others[0])])
    assert isinstance(shown, BookingReply)
    assert (shown.tickets, list(shown.cancelled), list(shown.redeemed)) == (booked.tickets, others[:380], [first])
    assert (shown.available, shown.version) == (99_380, 3)
    states = [reply.state for reply in (ticket, other, gone) if isinstance(reply, TicketReply)]
    assert states == ["redeemed", "valid", "cancelled"]
    assert isinstance(ticket, TicketReply)
    assert [ticket.redeemed_at] == list(shown.redeemed_at)
    refused = (await transact(again, [Redeem(first), Redeem(others[0]), Cancel("large")])).replies
    assert [getattr(reply, "code", None) for reply in refused] == [
        "already_redeemed",
        "already_cancelled",
        "already_redeemed",
    ]
    await again.close()


async def test_requests_of_one_client_are_read_in_order_slice_by_slice(ledger: Ledger) -> None:
    booked = (await transact(ledger, [Book("jazz", 100, f"b{number}") for number in range(40)])).replies
    shows: list[Request] = [Show(f"b{number}") for number in range(40)]
    first = await result_of(ledger.read, shows)
    assert 1 <= len(first.replies) < 40
    *shown, page, last, missing = await read(ledger, [*shows, Bookings(limit=1), Show("b0"), Show("nothing")])
    assert shown == booked
    assert pages_of([page]) == [(["b0"], True)]
    assert last == booked[0]
    assert isinstance(missing, ErrorReply)


async def test_the_event_of_a_hold_is_known_while_it_is_held(ledger: Ledger) -> None:
    await transact(ledger, [Hold("jazz", 1, 60, "mine"), Book("jazz", 1, "other")])
    assert [ledger.held(id) for id in ("mine", "other", "nobody's")] == [("jazz", 1), None, None]
    await transact(ledger, [Confirm("mine")])
    assert ledger.held("mine") is None
