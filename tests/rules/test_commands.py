"""What each command reads, decides and changes."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

import msgspec
import pytest

from tests.rules.cases import (
    ALL_GONE,
    BOOK,
    CONFIRMED,
    DATE,
    END,
    EXPIRED,
    FIRST,
    FULL,
    HELD,
    HOLD,
    JAZZ,
    LATE,
    MINE,
    NAMESAKES,
    OLD,
    ONE_GONE,
    PARTLY,
    POINTS,
    RELEASED,
    SECOND,
    SOLD,
    Steps,
    booked,
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
from ticketd.model import Redemption, ticket_id
from ticketd.rules.commands import TABLE, read_set
from ticketd.rules.working_set import Adopt, LedgerRequest, Page, ReadSet, ReadWatched, WorkingSet
from ticketd.wire.replies import (
    BookingReply,
    ChangeFacts,
    ErrorReply,
    EventReply,
    Reply,
    TicketReply,
)
from ticketd.wire.requests import (
    Amend,
    Annul,
    Auth,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Ping,
    Redeem,
    Reissue,
    Release,
    Request,
    Show,
    Wait,
)

T = TypeVar("T")

HERS = of("h", 1, 2)

DONE: list[tuple[str, Steps, LedgerRequest, Reply]] = [
    ("create", [], JAZZ, jazz(3, 0, 0, 0)),
    ("create, some sold elsewhere", [], PARTLY, jazz(2, 0, 1, 0)),
    ("create, all sold elsewhere", [], Create("Jazz", DATE, 3, "jazz", 0), jazz(0, 0, 3, 0)),
    ("adopt", [], Adopt(event("old", 9, 4)), EventReply("old", "Old", DATE, 9, 4, 0, 5, 0)),
    ("book", [JAZZ], BOOK, booked("b", MINE, 1, 1)),
    ("book all", [JAZZ], Book("jazz", 3, "b"), booked("b", of("b", 1, 2, 3), 0, 1)),
    ("book the last", SOLD, Book("jazz", 1, "c"), booked("c", of("c", 3), 0, 2)),
    ("hold", [JAZZ], HOLD, held(1, 1)),
    ("hold the last", [JAZZ, Book("jazz", 1, "b")], HOLD, held(0, 2)),
    ("confirm", HELD, Confirm("h"), booked("h", HERS, 1, 2)),
    ("confirm at the last moment", [*HELD, timedelta(seconds=59.999)], Confirm("h"), booked("h", HERS, 1, 2)),
    ("confirm when all else is sold", FULL, Confirm("h"), booked("h", of("h", 2, 3), 0, 3)),
    ("release", HELD, Release("h"), ended("released", 3, 2)),
    ("hold what was released", [JAZZ, Hold("jazz", 3, 9, "a"), Release("a")], HOLD, held(1, 3)),
    ("book what was released", RELEASED, Book("jazz", 3, "c"), booked("c", of("c", 1, 2, 3), 0, 3)),
    ("book what ran out", EXPIRED, Book("jazz", 3, "c"), booked("c", of("c", 1, 2, 3), 0, 3, at=END)),
    ("book what was cancelled", ALL_GONE, Book("jazz", 3, "c"), booked("c", of("c", 3, 4, 5), 0, 3)),
    ("cancel all", SOLD, Cancel("b"), booked("b", MINE, 3, 2, gone=MINE)),
    ("cancel what was held first", CONFIRMED, Cancel("h"), booked("h", HERS, 3, 3, gone=HERS)),
    ("cancel some", SOLD, Cancel("b", [SECOND]), booked("b", MINE, 2, 2, gone=[SECOND])),
    ("cancel one, named twice", SOLD, Cancel("b", [SECOND, SECOND]), booked("b", MINE, 2, 2, gone=[SECOND])),
    ("cancel the rest", ONE_GONE, Cancel("b"), booked("b", MINE, 3, 3, gone=MINE)),
    ("cancel the rest by name", ONE_GONE, Cancel("b", [FIRST]), booked("b", MINE, 3, 3, gone=MINE)),
    (
        "cancel another, one is gone",
        [JAZZ, Book("jazz", 3, "b"), Cancel("b", of("b", 2))],
        Cancel("b", of("b", 3)),
        booked("b", of("b", 1, 2, 3), 2, 3, gone=of("b", 2, 3)),
    ),
    (
        "cancel the last of three parts",
        [JAZZ, Book("jazz", 3, "b"), Cancel("b", of("b", 3)), Cancel("b", of("b", 1))],
        Cancel("b", of("b", 2)),
        booked("b", of("b", 1, 2, 3), 3, 4, gone=of("b", 1, 2, 3)),
    ),
    (
        "cancel a booking with a point",
        POINTS,
        Cancel("a.b", of("a.b", 2)),
        booked("a.b", of("a.b", 2), 1, 4, gone=of("a.b", 2)),
    ),
    (
        "cancel what is not redeemed",
        [*SOLD, Redeem(FIRST)],
        Cancel("b", [SECOND]),
        booked("b", MINE, 2, 2, gone=[SECOND]),
    ),
    ("redeem", [*SOLD, LATE], Redeem(SECOND), TicketReply(SECOND, "jazz", "b", "redeemed", END)),
    ("redeem what is not cancelled", ONE_GONE, Redeem(FIRST), TicketReply(FIRST, "jazz", "b", "redeemed", DATE)),
    (
        "redeem of a booking with a point",
        POINTS,
        Redeem(one("a.b", 2)),
        TicketReply(one("a.b", 2), "jazz", "a.b", "redeemed", DATE),
    ),
    ("redeem what was held first", CONFIRMED, Redeem(HERS[1]), TicketReply(HERS[1], "jazz", "h", "redeemed", DATE)),
    ("amend name", [JAZZ], Amend("jazz", "Bebop"), EventReply("jazz", "Bebop", DATE, 3, 3, 0, 0, 1)),
    ("amend date", [JAZZ], Amend("jazz", date=END), EventReply("jazz", "Jazz", END, 3, 3, 0, 0, 1)),
    ("grow", SOLD, Amend("jazz", capacity=9), jazz(7, 0, 2, 2)),
    ("shrink to what is sold", SOLD, Amend("jazz", capacity=2), jazz(0, 0, 2, 2)),
    ("shrink to what is held", HELD, Amend("jazz", capacity=2), jazz(0, 2, 0, 2)),
    ("shrink to both", [*FULL, Amend("jazz", capacity=9)], Amend("jazz", capacity=3), jazz(0, 2, 1, 4)),
]
GONE = ChangeFacts("cancel", DATE, 2, 2, [SECOND])
READ: list[tuple[str, Steps, LedgerRequest, Reply]] = [
    ("book again", SOLD, BOOK, booked("b", MINE, 1, 1, True)),
    ("book again when the rest is sold", [*SOLD, Book("jazz", 1, "c")], BOOK, booked("b", MINE, 1, 1, True)),
    ("book again after cancel", ALL_GONE, BOOK, booked("b", MINE, 1, 1, True)),
    ("hold again", [*HELD, LATE / 2], HOLD, held(1, 1, True)),
    ("hold again after confirm", CONFIRMED, HOLD, held(1, 1, True)),
    ("hold again after release", RELEASED, HOLD, held(1, 1, True)),
    ("hold again after it ran out", EXPIRED, HOLD, held(1, 1, True)),
    ("hold again after cancel", [*CONFIRMED, Cancel("h")], HOLD, held(1, 1, True)),
    ("confirm again", CONFIRMED, Confirm("h"), booked("h", HERS, 1, 2, True)),
    ("confirm again, late", [*CONFIRMED, LATE], Confirm("h"), booked("h", HERS, 1, 2, True)),
    ("confirm again, one gone", [*CONFIRMED, Cancel("h", [HERS[0]])], Confirm("h"), booked("h", HERS, 1, 2, True)),
    ("release again", [*RELEASED, BOOK, LATE], Release("h"), ended("released", 3, 2, True)),
    ("cancel all again", [*ALL_GONE, HOLD], Cancel("b"), booked("b", MINE, 3, 2, True, MINE)),
    ("cancel all again, by name", ALL_GONE, Cancel("b", [SECOND, FIRST]), booked("b", MINE, 3, 2, True, MINE)),
    ("cancel some again", ONE_GONE, Cancel("b", [SECOND]), booked("b", MINE, 2, 2, True, [SECOND])),
    (
        "cancel some, the rest, some again",
        [*ONE_GONE, Cancel("b")],
        Cancel("b", [SECOND]),
        booked("b", MINE, 2, 2, True, [SECOND]),
    ),
    ("cancel the rest again", [*ONE_GONE, Cancel("b")], Cancel("b"), booked("b", MINE, 3, 3, True, MINE)),
    ("amend to what it is", SOLD, Amend("jazz", "Jazz", DATE, 3), jazz(1, 0, 2, 1, True)),
    ("amend again", [JAZZ, Amend("jazz", capacity=9)], Amend("jazz", capacity=9), jazz(9, 0, 0, 1, True)),
    ("create again", [JAZZ], JAZZ, jazz(3, 0, 0, 0, True)),
    ("create again when some are sold", SOLD, JAZZ, jazz(3, 0, 0, 0, True)),
    ("create again after amend", [JAZZ, Amend("jazz", "Bebop", END, 9)], JAZZ, jazz(3, 0, 0, 0, True)),
    ("create again after two", [JAZZ, Amend("jazz", "A"), Amend("jazz", "B")], JAZZ, jazz(3, 0, 0, 0, True)),
    ("create again, some sold elsewhere", [PARTLY, BOOK], PARTLY, jazz(2, 0, 1, 0, True)),
    ("adopt what the ledger knows", SOLD, Adopt(event("jazz", 9, 9)), jazz(1, 0, 2, 1)),
    ("show an event", SOLD, Show("jazz"), jazz(1, 0, 2, 1)),
    ("show an event with a hold", HELD, Show("jazz"), jazz(1, 2, 0, 1)),
    ("show an event whose hold ran out", EXPIRED, Show("jazz"), jazz(3, 0, 0, 2)),
    ("show a booking", [*SOLD, Book("jazz", 1, "c")], Show("b"), booked("b", MINE, 1, 1)),
    ("show a hold", HELD, Show("h"), held(1, 1)),
    (
        "show a hold that ran out",
        EXPIRED,
        Show("h"),
        with_changes(ended("expired", 3, 2), ChangeFacts("expire", END, 3, 2)),
    ),
    ("show a booking, one gone", ONE_GONE, Show("b"), with_changes(booked("b", MINE, 2, 2, gone=[SECOND]), GONE)),
    ("show a booking, one used", [*SOLD, Redeem(FIRST)], Show("b"), booked("b", MINE, 1, 1, used=[FIRST])),
    ("show a ticket", SOLD, Show(SECOND), TicketReply(SECOND, "jazz", "b", "valid")),
    ("show a cancelled ticket", ONE_GONE, Show(SECOND), TicketReply(SECOND, "jazz", "b", "cancelled")),
    (
        "show a used ticket",
        [*SOLD, Redeem(SECOND), LATE],
        Show(SECOND),
        TicketReply(SECOND, "jazz", "b", "redeemed", DATE),
    ),
    ("show a booking, two used", [*SOLD, Redeem(SECOND), Redeem(FIRST)], Show("b"), booked("b", MINE, 1, 1, used=MINE)),
    (
        "show a booking, one gone, one used",
        [*ONE_GONE, Redeem(FIRST)],
        Show("b"),
        with_changes(booked("b", MINE, 2, 2, gone=[SECOND], used=[FIRST]), GONE),
    ),
    (
        "show a ticket of a booking with a point",
        POINTS,
        Show(one("a.b", 2)),
        TicketReply(one("a.b", 2), "jazz", "a.b", "valid"),
    ),
    ("a booking comes before a ticket", POINTS, Show(one("a", 1)), booked(one("a", 1), of(one("a", 1), 3), 0, 3)),
    (
        "a ticket is shown if it is meant",
        POINTS,
        Show(one("a", 1), "ticket"),
        TicketReply(one("a", 1), "jazz", "a", "valid"),
    ),
    ("an event comes first", [JAZZ, Book("jazz", 1, "jazz")], Show("jazz"), jazz(2, 0, 1, 1)),
    ("an event is shown if it is meant", NAMESAKES, Show("jazz", "event"), jazz(2, 0, 1, 1)),
    ("a booking is shown if it is meant", NAMESAKES, Show("jazz", "booking"), booked("jazz", of("jazz", 1), 2, 1)),
]
EXISTS = ErrorReply("event_exists", "jazz")
ANOTHER = ErrorReply("booking_conflict", "2 of event jazz")
USED = ErrorReply("already_redeemed", FIRST, redeemed_at=DATE)
USED_OF_TWO = ErrorReply("already_redeemed", FIRST, 1, 1, redeemed_at=DATE)
USED_AND_GONE = ErrorReply("already_redeemed", FIRST, 2, 2, redeemed_at=DATE)
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
    ("confirm nothing", [JAZZ], Confirm("x"), ErrorReply("booking_not_found", "x")),
    ("release nothing", [JAZZ], Release("x"), ErrorReply("booking_not_found", "x")),
    ("cancel nothing", [JAZZ], Cancel("x"), ErrorReply("booking_not_found", "x")),
    ("redeem nothing", [JAZZ], Redeem("x"), ErrorReply("ticket_not_found", "x")),
    ("redeem a ticket that never was", SOLD, Redeem(one("b", 9)), ErrorReply("ticket_not_found", one("b", 9))),
    ("redeem another's ticket of this", POINTS, Redeem(one("a", 2)), ErrorReply("ticket_not_found", one("a", 2))),
    ("redeem the last part alone", SOLD, Redeem(last_part(1)), ErrorReply("ticket_not_found", last_part(1))),
    ("redeem of what is held", HELD, Redeem(FIRST), ErrorReply("ticket_not_found", FIRST)),
    ("redeem of no booking", [JAZZ], Redeem(FIRST), ErrorReply("ticket_not_found", FIRST)),
    ("redeem a ticket by a longer id", SOLD, Redeem(f"{FIRST}.x"), ErrorReply("ticket_not_found", f"{FIRST}.x")),
    ("show a ticket that never was", SOLD, Show(one("b", 9)), ErrorReply("not_found", one("b", 9))),
    ("show the last part alone", SOLD, Show(last_part(1)), ErrorReply("not_found", last_part(1))),
    ("show nothing", [JAZZ], Show("nope"), ErrorReply("not_found", "nope")),
    ("show no event", SOLD, Show("b", "event"), ErrorReply("event_not_found", "b")),
    ("show no booking", SOLD, Show("jazz", "booking"), ErrorReply("booking_not_found", "jazz")),
    ("show no ticket", SOLD, Show("b", "ticket"), ErrorReply("ticket_not_found", "b")),
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
    ("cancel some that are gone", ONE_GONE, Cancel("b", MINE), ErrorReply("already_cancelled", SECOND, 2, 2)),
    ("cancel no ticket", SOLD, Cancel("b", [FIRST, "x"]), ErrorReply("ticket_not_found", "x")),
    (
        "cancel a ticket of another",
        [*SOLD, Book("jazz", 1, "c")],
        Cancel("b", [FIRST, one("c", 3)]),
        ErrorReply("ticket_not_found", one("c", 3)),
    ),
    ("cancel one that never was", SOLD, Cancel("b", of("b", 9)), ErrorReply("ticket_not_found", one("b", 9))),
    ("cancel by the last part alone", SOLD, Cancel("b", [last_part(1)]), ErrorReply("ticket_not_found", last_part(1))),
    (
        "cancel one of a longer booking",
        POINTS,
        Cancel("a", of("a.b", 2)),
        ErrorReply("ticket_not_found", one("a.b", 2)),
    ),
    ("cancel all, one is used", [*SOLD, Redeem(FIRST), LATE], Cancel("b"), USED_OF_TWO),
    ("cancel a used one and another", [*SOLD, Redeem(FIRST)], Cancel("b", MINE), USED_OF_TWO),
    ("cancel the rest, used", [*ONE_GONE, Redeem(FIRST)], Cancel("b"), USED_AND_GONE),
    ("redeem twice", [*SOLD, Redeem(FIRST), LATE], Redeem(FIRST), USED),
    ("redeem what is cancelled", ONE_GONE, Redeem(SECOND), ErrorReply("already_cancelled", SECOND)),
    ("redeem what is all cancelled", ALL_GONE, Redeem(FIRST), ErrorReply("already_cancelled", FIRST)),
    (
        "redeem what was cancelled in parts",
        [*ONE_GONE, Cancel("b")],
        Redeem(FIRST),
        ErrorReply("already_cancelled", FIRST),
    ),
]


def rows(table: list[tuple[str, Steps, LedgerRequest, T]]) -> list[object]:
    return [pytest.param(*row, id=name) for name, *row in table]


def differing(before: dict[str, T], after: dict[str, T]) -> dict[str, T]:
    return {id_: row for id_, row in after.items() if before.get(id_) != row}


def by_ticket(redemptions: Iterable[Redemption]) -> dict[str, Redemption]:
    return {f"{ticket_id(each.booking, each.ticket)}, {each.number}": each for each in redemptions}


def redemptions_in(working_set: WorkingSet) -> dict[str, Redemption]:
    of_all = [history for of_one in working_set.redemptions.values() for history in of_one.values()]
    return by_ticket(each for history in of_all for each in history)


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(DONE))
def test_a_change_is_answered_and_recorded_to_be_saved(
    earlier: Steps, request_: LedgerRequest, reply: BookingReply | EventReply | TicketReply
) -> None:
    working_set = working_set_after(earlier)
    before = committed(working_set)
    assert decide(working_set, request_) == reply
    assert working_set.changed
    assert working_set.changed_events == differing(before.events, working_set.events)
    assert working_set.changed_bookings == differing(before.bookings, working_set.bookings)
    assert by_ticket(working_set.new_redemptions) == differing(redemptions_in(before), redemptions_in(working_set))
    shown = decide(committed(working_set), Show(reply.id))
    if isinstance(shown, BookingReply):
        # Only show tells these.
        shown.redeemed = shown.redeemed_at = shown.changes = ()
    assert shown == reply


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(READ))
def test_a_read_or_replay_is_answered_and_changes_nothing(
    earlier: Steps, request_: LedgerRequest, reply: Reply
) -> None:
    working_set = working_set_after(earlier)
    before = committed(working_set)
    assert decide(working_set, request_) == reply
    assert vars(working_set) == vars(before)


@pytest.mark.parametrize(("earlier", "request_", "reply"), rows(REFUSED))
def test_a_refusal_says_why_and_changes_nothing(earlier: Steps, request_: LedgerRequest, reply: ErrorReply) -> None:
    working_set = working_set_after(earlier)
    before = committed(working_set)
    refusal = decide(working_set, request_)
    assert isinstance(refusal, ErrorReply)
    assert reply.message in refusal.message
    assert msgspec.structs.replace(refusal, message=reply.message) == reply
    assert not working_set.changed
    assert vars(working_set) == vars(before)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Book("e", 1, "b"), {"events": {"e"}, "new_bookings": {"b"}}),
        (Hold("e", 1, 60, "b"), {"events": {"e"}, "new_bookings": {"b"}}),
        (Wait("e", 2, 60, "b"), {"events": {"e"}, "new_bookings": {"b"}, "joining": {"b": ("e", 2)}}),
        (
            Wait("e", 1, 60, "b", "x"),
            {"events": {"e"}, "new_bookings": {"b"}, "joining": {"b": ("e", 1)}, "buyers": {"e": {"x"}}},
        ),
        (Confirm("b"), {"bookings": {"b"}}),
        (Release("b"), {"bookings": {"b"}, "freed": {"b"}}),
        (Cancel("b"), {"bookings": {"b"}, "freed": {"b"}, "redemptions_of": {"b"}}),
        (
            Cancel("b", MINE),
            {"bookings": {"b"}, "freed": {"b"}, "redemptions": {("b", last_part(1)), ("b", last_part(2))}},
        ),
        (Book("e", 1, "b", "x"), {"events": {"e"}, "new_bookings": {"b"}, "buyers": {"e": {"x"}}}),
        (Hold("e", 1, 60, "b", "x"), {"events": {"e"}, "new_bookings": {"b"}, "buyers": {"e": {"x"}}}),
        (Extend("b", 60), {"bookings": {"b"}}),
        (Confirm("b", late=True), {"bookings": {"b"}, "buyers_of": {"b"}}),
        (
            Redeem(FIRST),
            # It may be the id of a booking too.
            {"bookings": {"b", FIRST}, "redemptions": {("b", last_part(1))}, "redemptions_of": {FIRST}},
        ),
        (Redeem("b"), {"bookings": {"b"}, "redemptions_of": {"b"}}),
        (Annul(FIRST), {"bookings": {"b"}, "redemptions": {("b", last_part(1))}}),
        (Annul("b"), {}),
        (Reissue(FIRST), {"bookings": {"b"}, "redemptions": {("b", last_part(1))}}),
        (Amend("e", per_buyer=2), {"events": {"e"}, "amended": {"e": 0}, "limited": {"e"}}),
        (Amend("e", per_buyer=None), {"events": {"e"}, "amended": {"e": 0}}),
        (Delete("e"), {"events": {"e"}, "removals": {"e"}}),
        (JAZZ, {"events": {"jazz"}}),
        (Amend("e", "x"), {"events": {"e"}, "amended": {"e": 0}}),
        (Amend("e", capacity=9), {"events": {"e"}, "amended": {"e": 9}}),
        (Adopt(event("e", 1, 1)), {"events": {"e"}, "removals": {"e"}}),
        (Show("x"), {"events": {"x"}, "bookings": {"x"}, "redemptions_of": {"x"}}),
        (
            Show(FIRST),
            {
                "events": {FIRST},
                "bookings": {FIRST, "b"},
                "redemptions_of": {FIRST},
                "redemptions": {("b", last_part(1))},
            },
        ),
        (Bookings(), {"page": Page("", 100)}),
        (Bookings("b", 5), {"page": Page("b", 5)}),
        (Bookings(event="e", buyer="x"), {"events": {"e"}, "page": Page("", 100, "e", "x")}),
    ],
)
def test_the_read_set_names_every_row_that_a_decision_reads(request_: LedgerRequest, named: dict[str, object]) -> None:
    assert vars(read_set([request_, request_])) == vars(ReadSet()) | named


COMMANDS = Request.__subclasses__()


def test_the_table_has_a_row_for_every_command() -> None:
    assert TABLE.keys() == {*COMMANDS, Adopt, ReadWatched}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_answered_in_one_way(command: type[Request]) -> None:
    row = TABLE[command]
    from_memory = row.answer is not None and row.in_memory is TABLE[Ping].in_memory
    # Whatever memory may not be able to answer is decided or read as well.
    ways = [bool(row.decide), bool(row.read), from_memory, command is Auth]
    assert ways.count(True) == 1
    assert command.writes == bool(row.decide) == bool(row.verb)
    assert (row.reads is not TABLE[Ping].reads) == bool(row.decide or row.read)
    assert command.minted is None or command.minted in command.__struct_fields__
