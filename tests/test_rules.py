from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketd.books import Adopt, Books, LedgerRequest, Needs
from ticketd.model import BookingState, Change, Event
from ticketd.protocol import (
    Amend,
    Book,
    BookingRecord,
    BookingReply,
    Bookings,
    BookingsReply,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    EventReply,
    Hold,
    Made,
    Redeem,
    Release,
    Reply,
    Restore,
    Show,
    TicketFacts,
    TicketReply,
    Tickets,
    TicketsReply,
)
from ticketd.rules import decide_all

T = TypeVar("T")

DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)
END = DATE + timedelta(seconds=60)
LATE = timedelta(seconds=60)
JAZZ = Create("Jazz", DATE, 3, "jazz")
BOOK = Book("jazz", 2, "b")
HOLD = Hold("jazz", 2, 60, "h")

# What happens before a request: other requests, and time that passes.
Steps = list[LedgerRequest | timedelta]


def event(event_id: str, capacity: int, available: int) -> Event:
    sold = capacity - available
    return Event(event_id, "Old", DATE, capacity, available, 0, sold, 0, sold)


def decide(books: Books, request: LedgerRequest) -> Reply:
    return decide_all(books, [request])[0]


def committed(books: Books, passed: timedelta = timedelta(0)) -> Books:
    """Return new books as a store fills them some time after a commit: with the same rows, none of them changed."""
    fresh = Books(books.new_id, books.now + passed)
    fresh.events, fresh.bookings, fresh.tickets = deepcopy((books.events, books.bookings, books.tickets))
    for booking in fresh.bookings.values():
        if booking.state == "held" and booking.expires is not None and booking.expires <= fresh.now:
            fresh.due[booking.event] = fresh.due.get(booking.event, 0) + booking.quantity
    return fresh


def books_after(earlier: Steps) -> Books:
    books = Books((f"t{number}" for number in count(1)).__next__, DATE)
    for step in earlier:
        if isinstance(step, timedelta):
            books = committed(books, step)
            decide_all(books, [])
        else:
            assert not isinstance(decide(books, step), ErrorReply)
        books = committed(books)
    return books


def jazz(available: int, held: int, sold: int, version: int, replayed: bool = False) -> EventReply:
    capacity = available + held + sold
    return EventReply("jazz", "Jazz", DATE, capacity, available, held, sold, version, replayed)


def booked(
    booking: str,
    tickets: list[str],
    available: int,
    version: int,
    replayed: bool = False,
    gone: Sequence[str] = (),
    used: Sequence[str] = (),
) -> BookingReply:
    state: BookingState = "cancelled" if gone == tickets else "confirmed"
    reply = BookingReply(booking, "jazz", len(tickets), state, tickets, available, version, replayed=replayed)
    if gone:
        reply.cancelled = gone
    if used:
        reply.redeemed = used
    return reply


def held(available: int, version: int, replayed: bool = False) -> BookingReply:
    return BookingReply("h", "jazz", 2, "held", [], available, version, END, replayed=replayed)


def ended(state: BookingState, available: int, version: int, replayed: bool = False) -> BookingReply:
    return BookingReply("h", "jazz", 2, state, [], available, version, replayed=replayed)


MINE = ["t1", "t2"]
SOLD: Steps = [JAZZ, BOOK]
HELD: Steps = [JAZZ, HOLD]
CONFIRMED: Steps = [*HELD, Confirm("h")]
RELEASED: Steps = [*HELD, Release("h")]
EXPIRED: Steps = [*HELD, LATE]
ONE_GONE: Steps = [*SOLD, Cancel("b", ["t2"])]
ALL_GONE: Steps = [*SOLD, Cancel("b")]
FULL: Steps = [*HELD, Book("jazz", 1, "b")]
OLD = Adopt(event("old", 3, 2))
PARTLY = Create("Jazz", DATE, 3, "jazz", 2)
XY = ["x", "y"]
XYZ = ["x", "y", "z"]
# An event of another ledger, 5 of it sold or held there, and bookings from there.
MOVED = Create("Jazz", DATE, 9, "jazz", 4, 7)
SOLD_THERE = Restore("b", "jazz", 2, 7, 1, tickets=XY)
HELD_THERE = Restore("h", "jazz", 2, 5, 2, 60, END)
CONFIRMED_THERE = Restore("h", "jazz", 2, 5, 2, 60, END, [Change("confirm", 5, 3)], XY)
RELEASED_THERE = Restore("h", "jazz", 2, 5, 2, 60, END, [Change("release", 7, 3)])
EXPIRED_THERE = Restore("h", "jazz", 2, 5, 2, 60, END, [Change("expire", 7, 3)])
ONE_GONE_THERE = Restore("b", "jazz", 2, 7, 1, changes=[Change("cancel", 8, 3, ["y"])], tickets=XY)
ALL_GONE_THERE = Restore(
    *("b", "jazz", 2, 7, 1), changes=[Change("cancel", 8, 3, ["y"]), Change("cancel", 9, 4, ["x"])], tickets=XY
)
# A booking of three tickets, in parts; one cancel was of tickets of both.
FIRST_PART = Restore("b", "jazz", 3, 6, 1, changes=[Change("cancel", 6, 4, ["y"])], tickets=XY)
LAST_PART = Restore("b", "jazz", 3, 6, 1, changes=[Change("cancel", 6, 4, ["z"])], tickets=["z"], before=2)
IN_PARTS: Steps = [MOVED, FIRST_PART, LAST_PART]
THIRD_THERE = Restore("c", "jazz", 1, 4, 5, tickets=["z"])
ALL_MOVED: Steps = [MOVED, SOLD_THERE, HELD_THERE, THIRD_THERE]
DONE: list[tuple[str, Steps, LedgerRequest, Reply]] = [
    ("create", [], JAZZ, jazz(3, 0, 0, 0)),
    ("create, some sold elsewhere", [], PARTLY, jazz(2, 0, 1, 0)),
    ("create, all sold elsewhere", [], Create("Jazz", DATE, 3, "jazz", 0), jazz(0, 0, 3, 0)),
    ("adopt", [], Adopt(event("old", 9, 4)), EventReply("old", "Old", DATE, 9, 4, 0, 5, 0)),
    ("book", [JAZZ], BOOK, booked("b", MINE, 1, 1)),
    ("book all", [JAZZ], Book("jazz", 3, "b"), booked("b", ["t1", "t2", "t3"], 0, 1)),
    ("book the last", SOLD, Book("jazz", 1, "c"), booked("c", ["t3"], 0, 2)),
    ("hold", [JAZZ], HOLD, held(1, 1)),
    ("hold the last", [JAZZ, Book("jazz", 1, "b")], HOLD, held(0, 2)),
    ("confirm", HELD, Confirm("h"), booked("h", MINE, 1, 2)),
    ("confirm at the last moment", [*HELD, timedelta(seconds=59.999)], Confirm("h"), booked("h", MINE, 1, 2)),
    ("confirm when all else is sold", FULL, Confirm("h"), booked("h", ["t2", "t3"], 0, 3)),
    ("release", HELD, Release("h"), ended("released", 3, 2)),
    ("hold what was released", [JAZZ, Hold("jazz", 3, 9, "a"), Release("a")], HOLD, held(1, 3)),
    ("book what was released", RELEASED, Book("jazz", 3, "c"), booked("c", ["t1", "t2", "t3"], 0, 3)),
    ("book what ran out", EXPIRED, Book("jazz", 3, "c"), booked("c", ["t1", "t2", "t3"], 0, 3)),
    ("book what was cancelled", ALL_GONE, Book("jazz", 3, "c"), booked("c", ["t3", "t4", "t5"], 0, 3)),
    ("cancel all", SOLD, Cancel("b"), booked("b", MINE, 3, 2, gone=MINE)),
    ("cancel what was held first", CONFIRMED, Cancel("h"), booked("h", MINE, 3, 3, gone=MINE)),
    ("cancel some", SOLD, Cancel("b", ["t2"]), booked("b", MINE, 2, 2, gone=["t2"])),
    ("cancel one, named twice", SOLD, Cancel("b", ["t2", "t2"]), booked("b", MINE, 2, 2, gone=["t2"])),
    ("cancel the rest", ONE_GONE, Cancel("b"), booked("b", MINE, 3, 3, gone=MINE)),
    ("cancel the rest by name", ONE_GONE, Cancel("b", ["t1"]), booked("b", MINE, 3, 3, gone=MINE)),
    ("cancel what is not redeemed", [*SOLD, Redeem("t1")], Cancel("b", ["t2"]), booked("b", MINE, 2, 2, gone=["t2"])),
    ("redeem", [*SOLD, LATE], Redeem("t2"), TicketReply("t2", "jazz", "b", "redeemed", END)),
    ("redeem what is not cancelled", ONE_GONE, Redeem("t1"), TicketReply("t1", "jazz", "b", "redeemed", DATE)),
    ("redeem, told later", SOLD, Redeem("t2", END), TicketReply("t2", "jazz", "b", "redeemed", END)),
    ("create what comes from elsewhere", [], MOVED, jazz(4, 0, 5, 7)),
    ("restore what was booked", [MOVED], SOLD_THERE, booked("b", XY, 7, 1)),
    ("restore what is held", [MOVED], HELD_THERE, held(5, 2)),
    ("restore what was held and has run out by now", [MOVED, LATE], HELD_THERE, ended("expired", 6, 8)),
    ("restore what was confirmed", [MOVED], CONFIRMED_THERE, booked("h", XY, 5, 3)),
    ("restore what was released", [MOVED], RELEASED_THERE, ended("released", 7, 3)),
    ("restore what ran out", [MOVED], EXPIRED_THERE, ended("expired", 7, 3)),
    ("restore, one gone", [MOVED], ONE_GONE_THERE, booked("b", XY, 8, 3, gone=["y"])),
    ("restore, all gone", [MOVED], ALL_GONE_THERE, booked("b", XY, 9, 4, gone=XY)),
    ("restore, the rest sold", [MOVED, Book("jazz", 4, "c")], SOLD_THERE, booked("b", XY, 7, 1)),
    ("confirm what was restored", [MOVED, HELD_THERE], Confirm("h"), booked("h", MINE, 4, 9)),
    ("release what was restored", [MOVED, HELD_THERE], Release("h"), ended("released", 6, 9)),
    ("cancel what was restored", [MOVED, SOLD_THERE], Cancel("b", ["x"]), booked("b", XY, 5, 8, gone=["x"])),
    ("redeem what was restored", [MOVED, SOLD_THERE], Redeem("y"), TicketReply("y", "jazz", "b", "redeemed", DATE)),
    ("cancel what was restored in parts", IN_PARTS, Cancel("b"), booked("b", XYZ, 5, 8, gone=XYZ)),
    ("amend name", [JAZZ], Amend("jazz", "Bebop"), EventReply("jazz", "Bebop", DATE, 3, 3, 0, 0, 1)),
    ("amend date", [JAZZ], Amend("jazz", date=END), EventReply("jazz", "Jazz", END, 3, 3, 0, 0, 1)),
    ("grow", SOLD, Amend("jazz", capacity=9), jazz(7, 0, 2, 2)),
    ("shrink to what is sold", SOLD, Amend("jazz", capacity=2), jazz(0, 0, 2, 2)),
    ("shrink to what is held", HELD, Amend("jazz", capacity=2), jazz(0, 2, 0, 2)),
    ("shrink to both", [*FULL, Amend("jazz", capacity=9)], Amend("jazz", capacity=3), jazz(0, 2, 1, 4)),
]
READ: list[tuple[str, Steps, LedgerRequest, Reply]] = [
    ("book again", SOLD, BOOK, booked("b", MINE, 1, 1, True)),
    ("book again when the rest is sold", [*SOLD, Book("jazz", 1, "c")], BOOK, booked("b", MINE, 1, 1, True)),
    ("book again after cancel", ALL_GONE, BOOK, booked("b", MINE, 1, 1, True)),
    ("hold again", [*HELD, LATE / 2], HOLD, held(1, 1, True)),
    ("hold again after confirm", CONFIRMED, HOLD, held(1, 1, True)),
    ("hold again after release", RELEASED, HOLD, held(1, 1, True)),
    ("hold again after it ran out", EXPIRED, HOLD, held(1, 1, True)),
    ("hold again after cancel", [*CONFIRMED, Cancel("h")], HOLD, held(1, 1, True)),
    ("confirm again", CONFIRMED, Confirm("h"), booked("h", MINE, 1, 2, True)),
    ("confirm again, late", [*CONFIRMED, LATE], Confirm("h"), booked("h", MINE, 1, 2, True)),
    ("confirm again, one gone", [*CONFIRMED, Cancel("h", ["t1"])], Confirm("h"), booked("h", MINE, 1, 2, True)),
    ("release again", [*RELEASED, BOOK, LATE], Release("h"), ended("released", 3, 2, True)),
    ("cancel all again", [*ALL_GONE, HOLD], Cancel("b"), booked("b", MINE, 3, 2, True, MINE)),
    ("cancel all again, by name", ALL_GONE, Cancel("b", ["t2", "t1"]), booked("b", MINE, 3, 2, True, MINE)),
    ("cancel some again", ONE_GONE, Cancel("b", ["t2"]), booked("b", MINE, 2, 2, True, ["t2"])),
    (
        "cancel some, the rest, some again",
        [*ONE_GONE, Cancel("b")],
        Cancel("b", ["t2"]),
        booked("b", MINE, 2, 2, True, ["t2"]),
    ),
    ("cancel the rest again", [*ONE_GONE, Cancel("b")], Cancel("b"), booked("b", MINE, 3, 3, True, MINE)),
    ("amend to what it is", SOLD, Amend("jazz", "Jazz", DATE, 3), jazz(1, 0, 2, 1, True)),
    ("amend again", [JAZZ, Amend("jazz", capacity=9)], Amend("jazz", capacity=9), jazz(9, 0, 0, 1, True)),
    ("create again", [JAZZ], JAZZ, jazz(3, 0, 0, 0, True)),
    ("create again when some are sold", SOLD, JAZZ, jazz(3, 0, 0, 0, True)),
    ("create again after amend", [JAZZ, Amend("jazz", "Bebop", END, 9)], JAZZ, jazz(3, 0, 0, 0, True)),
    ("create again after two", [JAZZ, Amend("jazz", "A"), Amend("jazz", "B")], JAZZ, jazz(3, 0, 0, 0, True)),
    (
        "redeem again, told later",
        [*SOLD, Redeem("t1", END)],
        Redeem("t1", END),
        TicketReply("t1", "jazz", "b", "redeemed", END, True),
    ),
    (
        "redeem, told again by who was first",
        [*SOLD, Redeem("t1"), LATE],
        Redeem("t1", DATE),
        TicketReply("t1", "jazz", "b", "redeemed", DATE, True),
    ),
    ("create again what came from elsewhere", [MOVED, Book("jazz", 1, "c")], MOVED, jazz(4, 0, 5, 7, True)),
    ("create as it was created there", ALL_MOVED, Create("Jazz", DATE, 9, "jazz"), jazz(9, 0, 0, 0, True)),
    ("restore again", [MOVED, SOLD_THERE], SOLD_THERE, booked("b", XY, 7, 1, True)),
    ("restore again what is held", [MOVED, HELD_THERE], HELD_THERE, held(5, 2, True)),
    (
        "restore again what was confirmed since",
        [MOVED, HELD_THERE, Confirm("h")],
        HELD_THERE,
        booked("h", MINE, 4, 9, True),
    ),
    ("restore again what has run out since", [MOVED, HELD_THERE, LATE], HELD_THERE, ended("expired", 6, 9, True)),
    ("restore again what had run out", [MOVED, LATE, HELD_THERE], HELD_THERE, ended("expired", 6, 8, True)),
    (
        "restore again what was cancelled since",
        [MOVED, SOLD_THERE, Cancel("b")],
        SOLD_THERE,
        booked("b", XY, 6, 8, True, XY),
    ),
    ("restore again, all gone", [MOVED, ALL_GONE_THERE], ALL_GONE_THERE, booked("b", XY, 9, 4, True, XY)),
    ("restore a part again", IN_PARTS, FIRST_PART, booked("b", XYZ, 6, 4, True, ["y", "z"])),
    ("book again, restored", [MOVED, SOLD_THERE], Book("jazz", 2, "b"), booked("b", XY, 7, 1, True)),
    ("book again, restored and cancelled", [MOVED, ALL_GONE_THERE], Book("jazz", 2, "b"), booked("b", XY, 7, 1, True)),
    ("hold again, restored", [MOVED, HELD_THERE], HOLD, held(5, 2, True)),
    ("hold again, restored and confirmed", [MOVED, CONFIRMED_THERE], HOLD, held(5, 2, True)),
    ("confirm again, restored", [MOVED, CONFIRMED_THERE], Confirm("h"), booked("h", XY, 5, 3, True)),
    ("release again, restored", [MOVED, RELEASED_THERE], Release("h"), ended("released", 7, 3, True)),
    ("cancel again, restored", [MOVED, ALL_GONE_THERE], Cancel("b"), booked("b", XY, 9, 4, True, XY)),
    ("cancel some again, restored", [MOVED, ALL_GONE_THERE], Cancel("b", ["y"]), booked("b", XY, 8, 3, True, ["y"])),
    (
        "cancel some again, restored in parts",
        IN_PARTS,
        Cancel("b", ["z", "y"]),
        booked("b", XYZ, 6, 4, True, ["y", "z"]),
    ),
    (
        "show what is restored in parts",
        [MOVED, FIRST_PART],
        Show("b"),
        BookingReply("b", "jazz", 3, "confirmed", XY, 6, 4, cancelled=["y"]),
    ),
    ("create again, some sold elsewhere", [PARTLY, BOOK], PARTLY, jazz(2, 0, 1, 0, True)),
    ("adopt what the ledger knows", SOLD, Adopt(event("jazz", 9, 9)), jazz(1, 0, 2, 1)),
    ("show an event", SOLD, Show("jazz"), jazz(1, 0, 2, 1)),
    ("show an event with a hold", HELD, Show("jazz"), jazz(1, 2, 0, 1)),
    ("show an event whose hold ran out", EXPIRED, Show("jazz"), jazz(3, 0, 0, 2)),
    ("show a booking", [*SOLD, Book("jazz", 1, "c")], Show("b"), booked("b", MINE, 1, 1)),
    ("show a hold", HELD, Show("h"), held(1, 1)),
    ("show a hold that ran out", EXPIRED, Show("h"), ended("expired", 3, 2)),
    ("show a booking, one gone", ONE_GONE, Show("b"), booked("b", MINE, 2, 2, gone=["t2"])),
    ("show a booking, one used", [*SOLD, Redeem("t1")], Show("b"), booked("b", MINE, 1, 1, used=["t1"])),
    ("show a ticket", SOLD, Show("t2"), TicketReply("t2", "jazz", "b", "valid")),
    ("show a cancelled ticket", ONE_GONE, Show("t2"), TicketReply("t2", "jazz", "b", "cancelled")),
    ("show a used ticket", [*SOLD, Redeem("t2"), LATE], Show("t2"), TicketReply("t2", "jazz", "b", "redeemed", DATE)),
    ("an event comes first", [JAZZ, Book("jazz", 1, "jazz")], Show("jazz"), jazz(2, 0, 1, 1)),
]
EXISTS = ErrorReply("event_exists", "jazz")
ANOTHER = ErrorReply("booking_conflict", "2 of event jazz")
USED = ErrorReply("already_redeemed", "t1", redeemed_at=DATE)
USED_OF_TWO = ErrorReply("already_redeemed", "t1", 1, 1, redeemed_at=DATE)
USED_AND_GONE = ErrorReply("already_redeemed", "t1", 2, 2, redeemed_at=DATE)
OTHERWISE = ErrorReply("booking_conflict", "is here already, and is another one")
NOT_WHOLE = ErrorReply("busy", "booking b is being restored and has 2 of its 3 tickets so far", retry_after=1.0)
SOLD_LESS = Create("Jazz", DATE, 9, "jazz", 8, 7)
EARLIER = Create("Jazz", DATE, 9, "jazz", 4)
THEN = Create("Jazz", DATE, 9, "jazz", 4, 2)
FOURTH_THERE = Restore("d", "jazz", 1, 4, 5, tickets=["w"])
REFUSED: list[tuple[str, Steps, LedgerRequest, ErrorReply]] = [
    ("book of no event", [JAZZ], Book("nope", 1, "b"), ErrorReply("event_not_found", "nope")),
    ("hold of no event", [JAZZ], Hold("nope", 1, 60, "b"), ErrorReply("event_not_found", "nope")),
    ("amend no event", [JAZZ], Amend("nope", "x"), ErrorReply("event_not_found", "nope")),
    ("more than there are", [JAZZ], Book("jazz", 4, "b"), ErrorReply("sold_out", "3 left", 3, 0)),
    ("more than are left", SOLD, Book("jazz", 2, "c"), ErrorReply("sold_out", "1 left, fewer than 2", 1, 1)),
    ("book what is held", HELD, BOOK, ErrorReply("sold_out", "1 left, fewer than 2", 1, 1)),
    ("hold what is sold", SOLD, HOLD, ErrorReply("sold_out", "1 left, fewer than 2", 1, 1)),
    ("none are left", FULL, Book("jazz", 1, "c"), ErrorReply("sold_out", "no tickets left", 0, 2)),
    ("sold elsewhere", [OLD], Book("old", 3, "b"), ErrorReply("sold_out", "2 left", 2, 0)),
    ("id of a booking of another quantity", SOLD, Book("jazz", 1, "b"), ANOTHER),
    ("id of a booking of another event", [OLD, *SOLD], Book("old", 2, "b"), ANOTHER),
    ("id of a booking, and no such event", SOLD, Book("nope", 2, "b"), ANOTHER),
    ("hold with the id of a booking", SOLD, Hold("jazz", 2, 60, "b"), ANOTHER),
    ("book with the id of a hold", HELD, Book("jazz", 2, "h"), ANOTHER),
    ("book with the id of a confirmed hold", CONFIRMED, Book("jazz", 2, "h"), ANOTHER),
    ("id of a hold for another time", HELD, Hold("jazz", 2, 61, "h"), ANOTHER),
    ("id of another name", [JAZZ], Create("Jazz!", DATE, 3, "jazz"), EXISTS),
    ("id of another date", [JAZZ], Create("Jazz", END, 3, "jazz"), EXISTS),
    ("id of another capacity", [JAZZ], Create("Jazz", DATE, 4, "jazz"), EXISTS),
    ("id of one sold elsewhere", [OLD], Create("Old", DATE, 3, "old"), ErrorReply("event_exists", "old")),
    ("id of one not sold elsewhere", [JAZZ], PARTLY, EXISTS),
    ("id of one amended to this", [JAZZ, Amend("jazz", "Bebop")], Create("Bebop", DATE, 3, "jazz"), EXISTS),
    (
        "shrink below what is sold",
        SOLD,
        Amend("jazz", "x", capacity=1),
        ErrorReply("capacity_below_sold", "at least 2", 1, 1),
    ),
    (
        "shrink below what is sold and held",
        FULL,
        Amend("jazz", capacity=2),
        ErrorReply("capacity_below_sold", "1 sold and 2 held; its capacity must be at least 3", 0, 2),
    ),
    (
        "restore of no event",
        [JAZZ],
        Restore("b", "nope", 1, 5, 1, tickets=["x"]),
        ErrorReply("event_not_found", "nope"),
    ),
    (
        "restore more than was sold there",
        [SOLD_LESS],
        SOLD_THERE,
        ErrorReply("event_exists", "1 tickets sold els", 8, 7),
    ),
    ("restore more held than was held there", [SOLD_LESS], HELD_THERE, ErrorReply("event_exists", "2 of those", 8, 7)),
    (
        "restore more than is left of it",
        ALL_MOVED,
        FOURTH_THERE,
        ErrorReply("event_exists", "0 tickets sold els", 4, 8),
    ),
    ("restore of a later event", [EARLIER], SOLD_THERE, ErrorReply("event_exists", "is at version 0", 4, 0)),
    ("restore of later changes", [THEN], ONE_GONE_THERE, ErrorReply("event_exists", "b at version 3", 4, 2)),
    ("restore what was made here", [MOVED, BOOK], SOLD_THERE, OTHERWISE),
    ("restore with another past", [MOVED, SOLD_THERE], ONE_GONE_THERE, OTHERWISE),
    ("restore what was released here", [MOVED, HELD_THERE, Release("h")], RELEASED_THERE, OTHERWISE),
    ("restore with other tickets", [MOVED, SOLD_THERE], Restore("b", "jazz", 2, 7, 1, tickets=["x", "z"]), OTHERWISE),
    ("restore of another time", [MOVED, HELD_THERE], Restore("h", "jazz", 2, 5, 2, 60, DATE), OTHERWISE),
    ("restore what was booked, not held", [MOVED, HELD_THERE], Restore("h", "jazz", 2, 5, 2, tickets=XY), OTHERWISE),
    (
        "restore the ticket of another",
        [MOVED, SOLD_THERE],
        Restore("c", "jazz", 1, 4, 5, tickets=["x"]),
        ErrorReply("booking_conflict", "ticket x is here already, of booking b"),
    ),
    ("restore the last part first", [MOVED], LAST_PART, ErrorReply("booking_conflict", "has 0 tickets so far, not 2")),
    (
        "restore a part that leaves one out",
        [MOVED, Restore("b", "jazz", 3, 6, 1, tickets=["x"])],
        LAST_PART,
        ErrorReply("booking_conflict", "has 1 tickets so far, not 2; send its parts in order"),
    ),
    (
        "restore a part with another past",
        [MOVED, FIRST_PART],
        Restore("b", "jazz", 3, 6, 1, changes=[Change("cancel", 7, 4, ["z"])], tickets=["z"], before=2),
        OTHERWISE,
    ),
    (
        "restore a part with a ticket again",
        [MOVED, FIRST_PART],
        Restore("b", "jazz", 3, 6, 1, tickets=["x"], before=2),
        OTHERWISE,
    ),
    ("book again, a part is restored", [MOVED, FIRST_PART], Book("jazz", 3, "b"), NOT_WHOLE),
    ("book with the id of a part", [MOVED, FIRST_PART], BOOK, ErrorReply("booking_conflict", "3 of event jazz")),
    ("confirm a part", [MOVED, FIRST_PART], Confirm("b"), NOT_WHOLE),
    ("release a part", [MOVED, FIRST_PART], Release("b"), NOT_WHOLE),
    ("cancel a part", [MOVED, FIRST_PART], Cancel("b"), NOT_WHOLE),
    ("cancel some of a part", [MOVED, FIRST_PART], Cancel("b", ["x"]), NOT_WHOLE),
    ("redeem, told with another time", [*SOLD, Redeem("t1")], Redeem("t1", END), USED),
    ("confirm nothing", [JAZZ], Confirm("x"), ErrorReply("booking_not_found", "x")),
    ("release nothing", [JAZZ], Release("x"), ErrorReply("booking_not_found", "x")),
    ("cancel nothing", [JAZZ], Cancel("x"), ErrorReply("booking_not_found", "x")),
    ("redeem nothing", [JAZZ], Redeem("x"), ErrorReply("ticket_not_found", "x")),
    ("redeem a booking", SOLD, Redeem("b"), ErrorReply("ticket_not_found", "b")),
    ("show nothing", [JAZZ], Show("nope"), ErrorReply("not_found", "nope")),
    ("confirm what was booked", SOLD, Confirm("b"), ErrorReply("already_confirmed", "b", 1, 1)),
    ("confirm what was released", RELEASED, Confirm("h"), ErrorReply("already_released", "h", 3, 2)),
    ("confirm what ran out", [*EXPIRED, BOOK], Confirm("h"), ErrorReply("hold_expired", "1 left", 1, 3)),
    ("confirm what was cancelled", ALL_GONE, Confirm("b"), ErrorReply("already_cancelled", "b", 3, 2)),
    ("release what was booked", SOLD, Release("b"), ErrorReply("already_confirmed", "b", 1, 1)),
    ("release what was confirmed", CONFIRMED, Release("h"), ErrorReply("already_confirmed", "h", 1, 2)),
    ("release what ran out", EXPIRED, Release("h"), ErrorReply("hold_expired", "3 left", 3, 2)),
    ("release what was cancelled", ALL_GONE, Release("b"), ErrorReply("already_cancelled", "b", 3, 2)),
    ("cancel what is held", HELD, Cancel("h"), ErrorReply("bad_request", "release it", 1, 1)),
    ("cancel what was released", RELEASED, Cancel("h"), ErrorReply("already_released", "h", 3, 2)),
    ("cancel what ran out", EXPIRED, Cancel("h"), ErrorReply("hold_expired", "3 left", 3, 2)),
    ("cancel some that are gone", ONE_GONE, Cancel("b", MINE), ErrorReply("already_cancelled", "t2", 2, 2)),
    ("cancel no ticket", SOLD, Cancel("b", ["t1", "x"]), ErrorReply("ticket_not_found", "x")),
    (
        "cancel a ticket of another",
        [*SOLD, Book("jazz", 1, "c")],
        Cancel("b", ["t1", "t3"]),
        ErrorReply("ticket_not_found", "t3"),
    ),
    ("cancel all, one is used", [*SOLD, Redeem("t1"), LATE], Cancel("b"), USED_OF_TWO),
    ("cancel a used one and another", [*SOLD, Redeem("t1")], Cancel("b", MINE), USED_OF_TWO),
    ("cancel the rest, used", [*ONE_GONE, Redeem("t1")], Cancel("b"), USED_AND_GONE),
    ("redeem twice", [*SOLD, Redeem("t1"), LATE], Redeem("t1"), USED),
    ("redeem what is cancelled", ONE_GONE, Redeem("t2"), ErrorReply("already_cancelled", "t2")),
]


def rows(table: list[tuple[str, Steps, LedgerRequest, T]]) -> list[object]:
    return [pytest.param(*row, id=name) for name, *row in table]


def differing(before: dict[str, T], after: dict[str, T]) -> dict[str, T]:
    return {id_: row for id_, row in after.items() if before.get(id_) != row}


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(DONE))
def test_what_is_done_is_answered_and_noted_to_be_saved(
    earlier: Steps, request_: LedgerRequest, reply: BookingReply | EventReply | TicketReply
) -> None:
    books = books_after(earlier)
    before = committed(books)
    assert decide(books, request_) == reply
    assert books.changed
    assert books.changed_events == differing(before.events, books.events)
    assert books.changed_bookings == differing(before.bookings, books.bookings)
    assert books.changed_tickets == differing(before.tickets, books.tickets)
    shown = decide(committed(books), Show(reply.id))
    if isinstance(shown, BookingReply):
        # Only show tells these.
        shown.redeemed = ()
    assert shown == reply


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(READ))
def test_what_is_known_is_answered_and_changes_nothing(earlier: Steps, request_: LedgerRequest, reply: Reply) -> None:
    books = books_after(earlier)
    before = committed(books)
    assert decide(books, request_) == reply
    assert vars(books) == vars(before)


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(REFUSED))
def test_a_refusal_says_why_and_changes_nothing(earlier: Steps, request_: LedgerRequest, reply: ErrorReply) -> None:
    books = books_after(earlier)
    before = committed(books)
    refusal = decide(books, request_)
    assert isinstance(refusal, ErrorReply)
    assert reply.message in refusal.message
    assert msgspec.structs.replace(refusal, message=reply.message) == reply
    assert not books.changed
    assert vars(books) == vars(before)


def test_a_hold_counts_until_the_moment_it_expires_and_no_longer() -> None:
    before = books_after([JAZZ, HOLD])
    early = committed(before, LATE - timedelta(milliseconds=1))
    assert decide(early, Book("jazz", 3, "b")) == ErrorReply("sold_out", "event jazz has 1 left, fewer than 3", 1, 1)
    assert not early.changed
    late = committed(before, LATE)
    assert decide_all(late, [Show("jazz"), Show("h"), Confirm("h"), HOLD, Book("jazz", 3, "b")]) == [
        jazz(3, 0, 0, 2),
        ended("expired", 3, 2),
        ErrorReply("hold_expired", "booking h ran out, 3 left; hold again, with a new id", 3, 2),
        held(1, 1, True),
        booked("b", ["t1", "t2", "t3"], 0, 3),
    ]
    assert list(late.changed_events) == ["jazz"]


def test_all_holds_of_an_event_that_ran_out_are_one_change_of_it() -> None:
    books = committed(books_after([JAZZ, HOLD, Hold("jazz", 1, 5, "i"), OLD, Hold("old", 1, 60, "j")]), LATE)
    assert decide_all(books, []) == []
    assert [(each.id, each.available, each.held, each.version) for each in books.changed_events.values()] == [
        ("jazz", 3, 0, 3),
        ("old", 2, 0, 2),
    ]
    assert {booking.state for booking in books.bookings.values()} == {"expired"}


def test_a_page_shows_bookings_as_they_are_by_now() -> None:
    books = committed(books_after([*FULL, Cancel("b", ["t1"])]), LATE)
    books.pages = [[books.bookings["b"], books.bookings.pop("h")]]
    page = decide(books, Bookings())
    assert isinstance(page, BookingsReply)
    assert [(each.id, each.state, each.tickets, list(each.cancelled), each.version) for each in page.bookings] == [
        ("b", "cancelled", ["t1"], ["t1"], 3),
        ("h", "expired", [], [], 4),
    ]


def test_a_page_tells_the_past_of_what_was_held_or_has_changed() -> None:
    books = books_after([JAZZ, Hold("jazz", 1, 60, "h"), Confirm("h"), Cancel("h"), Book("jazz", 1, "b")])
    books.pages = [[books.bookings["b"], books.bookings["h"]]]
    assert decide(books, Bookings()) == BookingsReply(
        [
            BookingRecord("b", "jazz", 1, "confirmed", ["t2"], 2, 4),
            BookingRecord(
                *("h", "jazz", 1, "cancelled", ["t1"], 3, 3),
                cancelled=["t1"],
                made=Made(2, 1, 60, END),
                changes=[Change("confirm", 2, 2), Change("cancel", 3, 3, ["t1"])],
            ),
        ]
    )


@pytest.mark.parametrize(
    ("requests", "available", "held", "sold", "elsewhere", "version"),
    [
        ([SOLD_THERE], 4, 0, 5, 3, 7),
        ([HELD_THERE], 4, 2, 3, 3, 8),
        ([CONFIRMED_THERE], 4, 0, 5, 3, 7),
        ([RELEASED_THERE], 4, 0, 5, 5, 7),
        ([EXPIRED_THERE], 4, 0, 5, 5, 7),
        ([ONE_GONE_THERE], 4, 0, 5, 4, 7),
        ([ALL_GONE_THERE], 4, 0, 5, 5, 7),
        ([FIRST_PART], 4, 0, 5, 4, 7),
        ([FIRST_PART, LAST_PART], 4, 0, 5, 4, 7),
        ([SOLD_THERE, HELD_THERE, THIRD_THERE], 4, 2, 3, 0, 8),
        ([HELD_THERE, Confirm("h")], 4, 0, 5, 3, 9),
        ([HELD_THERE, Release("h")], 6, 0, 3, 3, 9),
        ([SOLD_THERE, Cancel("b")], 6, 0, 3, 3, 8),
    ],
)
def test_a_booking_that_is_restored_comes_out_of_what_was_sold_elsewhere_and_takes_nothing_that_is_on_sale(
    requests: list[LedgerRequest], available: int, held: int, sold: int, elsewhere: int, version: int
) -> None:
    event = books_after([MOVED, *requests]).events["jazz"]
    counts = (event.available, event.held, event.sold, event.sold_elsewhere, event.version)
    assert counts == (available, held, sold, elsewhere, version)


def test_a_hold_that_is_restored_too_late_goes_on_sale_in_the_commit_that_ends_others_of_its_event() -> None:
    books = committed(books_after([MOVED, Hold("jazz", 1, 60, "here")]), LATE)
    assert decide_all(books, [HELD_THERE, Show("jazz")]) == [ended("expired", 6, 10), jazz(6, 0, 3, 10)]
    assert books.bookings["h"].changes == [Change("expire", 6, 10)]


def test_pages_are_answered_in_the_order_they_were_asked_for() -> None:
    books = books_after([*ONE_GONE, Redeem("t1")])
    books.pages = [[books.tickets["t2"]], [], [books.tickets["t1"]]]
    assert decide_all(books, [Tickets("t1", 1), Bookings(), Tickets()]) == [
        TicketsReply([TicketFacts("t2", "jazz", "b", "cancelled")]),
        BookingsReply([]),
        TicketsReply([TicketFacts("t1", "jazz", "b", "redeemed", DATE)]),
    ]
    assert not books.changed


@pytest.mark.parametrize(
    ("request_", "events", "bookings", "tickets", "with_tickets"),
    [
        (Book("e", 1, "b"), {"e"}, {"b"}, set(), set()),
        (Hold("e", 1, 60, "b"), {"e"}, {"b"}, set(), set()),
        (Confirm("b"), set(), {"b"}, set(), set()),
        (Release("b"), set(), {"b"}, set(), set()),
        (Cancel("b", ["t"]), set(), {"b"}, set(), {"b"}),
        (Redeem("t"), set(), set(), {"t"}, set()),
        (Restore("b", "e", 2, 9, 1, tickets=["t", "u"]), {"e"}, {"b"}, {"t", "u"}, set()),
        (JAZZ, {"jazz"}, set(), set(), set()),
        (Amend("e", "x"), {"e"}, set(), set(), set()),
        (Adopt(event("e", 1, 1)), {"e"}, set(), set(), set()),
        (Show("x"), {"x"}, {"x"}, {"x"}, {"x"}),
    ],
)
def test_everything_that_a_decision_looks_at_is_needed(
    request_: LedgerRequest, events: set[str], bookings: set[str], tickets: set[str], with_tickets: set[str]
) -> None:
    needs = Needs([request_, request_])
    assert (needs.events, needs.bookings, needs.tickets) == (events, bookings, tickets)
    assert needs.with_tickets == with_tickets


def test_every_page_that_is_asked_for_is_needed_in_this_order() -> None:
    pages: list[Bookings | Tickets] = [Tickets(), Bookings("b", 5), Tickets()]
    assert Needs([Show("x"), *pages]).pages == pages


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


BOOKING_IDS = st.sampled_from(["1", "2", "3", "4", "5"])
ENDS = st.sampled_from([None, None, Change("release", 5, 4), Change("expire", 5, 4)])


@st.composite
def restores(draw: st.DrawFn) -> Restore:
    """Return a booking of another ledger, or a part of one: now and then the same as another, or nearly."""
    booking, kind = draw(BOOKING_IDS), draw(st.sampled_from(["held", "booked", "first part", "last part"]))
    made = (booking, draw(st.sampled_from(["a", "a", "b"])), 4 if "part" in kind else 2, 5, 1)
    if kind == "held":
        end = draw(ENDS)
        return Restore(*made, 60, draw(st.sampled_from([DATE, END])), [end] if end else [])
    before = 2 if kind == "last part" else 0
    tickets = draw(st.sampled_from([["x", "y"]] + [[f"{booking}-{before}", f"{booking}-{before + 1}"]] * 9))
    cancelled = draw(st.lists(st.sampled_from(tickets), unique=True))
    changes = [Change("cancel", 6, 4 + before + number, [ticket]) for number, ticket in enumerate(cancelled)]
    return Restore(*made, changes=changes, tickets=tickets, before=before)


LIVES = st.one_of(
    st.builds(Book, EVENT_IDS, st.integers(1, 4), BOOKING_IDS),
    st.builds(Hold, EVENT_IDS, st.integers(1, 4), st.just(60), BOOKING_IDS),
    st.builds(Confirm, BOOKING_IDS),
    st.builds(Release, BOOKING_IDS),
    st.builds(Cancel, BOOKING_IDS),
    st.builds(Redeem, BOOKING_IDS.map("{}-0".format)),
    st.just(LATE),
    restores(),
    restores(),
    restores(),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(LIVES, min_size=10, max_size=40))
def test_whatever_is_restored_while_it_is_sold_nothing_is_oversold_and_no_ticket_counts_twice(steps: Steps) -> None:
    books = books_after([Create("A", DATE, 12, "a", 6, 9), Create("B", DATE, 12, "b", 9, 9)])
    for step in steps:
        books = committed(books, step if isinstance(step, timedelta) else timedelta(0))
        decide_all(books, [] if isinstance(step, timedelta) else [step])
        for event in books.events.values():
            assert event.sold + event.held + event.available == event.capacity
            assert min(event.sold - event.sold_elsewhere, event.sold_elsewhere, event.held, event.available) >= 0
            mine = [booking for booking in books.bookings.values() if booking.event == event.id]
            assert event.held == sum(booking.quantity for booking in mine if booking.state == "held")
            there = [ticket for ticket in books.tickets.values() if ticket.event == event.id]
            assert event.sold - event.sold_elsewhere == sum(ticket.state != "cancelled" for ticket in there)
            assert sorted(ticket.id for ticket in there) == sorted(id_ for booking in mine for id_ in booking.tickets)
            assert all(len(booking.tickets) <= booking.quantity for booking in mine)
