"""``wait``: what becomes available goes to the first in line whom it is enough for, in the same batch."""

from datetime import timedelta

import pytest

from tests.rules.cases import (
    DATE,
    LATE,
    Steps,
    codes,
    committed,
    decide,
    decide_batch,
    of,
    refused,
    replayed,
    with_changes,
    working_set_after,
)
from tests.rules.lines import FOUR, LINE, NO_TICKETS, SIX, TWO, offered
from ticketd.model import WAITING_MAX
from ticketd.rules.working_set import LedgerRequest, Page
from ticketd.wire.replies import BookingReply, BookingsReply, ChangeFacts, Made
from ticketd.wire.requests import (
    Amend,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Release,
    Show,
    Wait,
)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("requests", "passed", "ids"),
    [
        ([Cancel("b")], 0, ["x-two", "y-one"]),
        ([Cancel("b", of("b", 2))], 0, ["y-one"]),
        # One by one, each of them is enough for nobody else.
        ([Cancel("b", of("b", 2)), Cancel("b", of("b", 1)), Cancel("b", of("b", 3))], 0, ["y-one", "x-two"]),
        ([Release("h")], 0, ["x-two"]),
        ([Release("i"), Release("h")], 0, ["y-one", "x-two"]),
        ([], 60, ["x-two"]),
        ([], 59.999, []),
        ([], 3_600, ["x-two", "y-one"]),
        ([Cancel("b")], 60, ["x-two", "y-one"]),
        ([Amend("jazz", capacity=10)], 0, ["z-four"]),
        ([Amend("jazz", capacity=12)], 0, ["z-four", "x-two"]),
        ([Amend("jazz", capacity=16)], 0, ["z-four", "x-two", "y-one", "a-three"]),
        # It is not theirs to be passed on: it was never available.
        ([Release("x-two")], 0, []),
        ([Release("y-one"), Release("i")], 0, []),
        # The second of three becomes the first whom it is enough for.
        ([Release("x-two"), Cancel("b")], 0, ["y-one"]),
        ([Cancel("b"), Release("x-two")], 0, ["x-two", "y-one"]),
        ([Cancel("b"), Release("x-two"), Release("y-one")], 0, ["x-two", "y-one", "a-three"]),
        # What is sold or held already is not free.
        ([Confirm("h"), Extend("i", 7_200), Confirm("i")], 0, []),
        ([Confirm("h"), Cancel("h")], 0, ["x-two"]),
        # Who joins in the batch is the last in line, before and after.
        ([Wait("jazz", 2, 900, "late"), Release("h")], 0, ["x-two"]),
        ([Wait("jazz", 2, 900, "late"), Cancel("b"), Release("h")], 0, ["x-two", "y-one", "late"]),
        (
            [Amend("jazz", capacity=8), Wait("jazz", 1, 900, "late"), Amend("jazz", capacity=10)],
            0,
            ["x-two", "y-one", "late"],
        ),
    ],
)
def test_what_becomes_available_goes_to_the_first_whom_it_is_enough_for(
    requests: list[LedgerRequest], passed: float, ids: list[str]
) -> None:
    assert offered(working_set_after(LINE), *requests, passed=timedelta(seconds=passed)) == ids


def test_tickets_are_offered_before_the_next_request_of_the_batch() -> None:
    rows = working_set_after(LINE)
    replies = decide_batch(rows, Release("h"), Book("jazz", 1, "quick"), Cancel("b"), Hold("jazz", 1, 9, "quicker"))
    assert codes(replies) == [None, "sold_out", None, None]
    # The last reply: after an offer of one ticket, what is left is enough for nobody in line.
    assert offered(rows) == []
    event = rows.events["jazz"]
    assert (event.available, event.held, event.sold, event.waiting) == (1, 5, 0, 2)


def test_an_offer_is_a_hold_from_now_on_and_a_change_of_its_own() -> None:
    rows = working_set_after([*LINE, 10 * SECOND])
    [reply] = decide_batch(rows, Release("h"))
    # The reply tells what was when it was decided.
    assert isinstance(reply, BookingReply)
    assert (reply.available, reply.version) == (2, 8)
    at = DATE + 10 * SECOND
    offer = ChangeFacts("offer", at, 0, 9, expires=at + 900 * SECOND)
    shown = BookingReply("x-two", "jazz", 2, "held", [], 0, 9, DATE, at + 900 * SECOND)
    assert decide(committed(rows), Show("x-two")) == with_changes(shown, offer)
    event = rows.events["jazz"]
    assert (event.available, event.held, event.sold, event.waiting, event.version) == (0, 3, 3, 3, 9)


def test_who_waits_is_neither_held_nor_sold() -> None:
    event = working_set_after(LINE).events["jazz"]
    assert (event.available, event.held, event.sold, event.waiting) == (0, 3, 3, 4)


def test_who_gives_up_at_once_makes_room_for_whoever_has_come_meanwhile() -> None:
    rows = working_set_after([*NO_TICKETS, FOUR, Release("h")])
    assert offered(rows, Wait("jazz", 2, 900, "c"), Wait("jazz", 2, 900, "d"), Release("c")) == ["c", "d"]


def test_what_is_offered_is_confirmed_extended_or_released_as_any_hold() -> None:
    rows = working_set_after([*LINE, Release("h")])
    assert codes(decide_batch(rows, Extend("x-two", 1_000), Confirm("x-two"))) == [None, None]
    assert rows.bookings["x-two"].state == "confirmed"
    rows = working_set_after([*LINE, Release("h")])
    assert offered(rows, Release("x-two")) == ["y-one"]


def test_an_offer_that_runs_out_goes_to_the_next_and_does_not_come_back() -> None:
    rows = working_set_after([*NO_TICKETS, Wait("jazz", 1, 5, "a"), Wait("jazz", 1, 5, "b2"), Release("i")])
    assert offered(rows, passed=5 * SECOND) == ["b2"]
    assert offered(rows, passed=5 * SECOND) == []
    assert {rows.bookings[id].state for id in ("a", "b2")} == {"expired"}
    assert rows.events["jazz"].available == 1


def test_a_hold_may_last_so_long_from_its_offer() -> None:
    rows = working_set_after([*LINE, HOUR - SECOND, Release("i")])
    rows.hold_seconds_total_max = 1_000
    [reply] = decide_batch(rows, Extend("y-one", 86_400), passed=SECOND)
    assert isinstance(reply, BookingReply)
    assert reply.expires == DATE + HOUR - SECOND + 1_000 * SECOND


def test_who_confirms_late_comes_after_the_line() -> None:
    rows = working_set_after(LINE)
    replies = decide_batch(rows, Confirm("h", late=True), Cancel("b", of("b", 1)), passed=LATE)
    assert codes(replies) == ["hold_expired", None]
    assert rows.bookings["x-two"].state == "held"
    # Nobody in line has use for what is left.
    rows = working_set_after([*NO_TICKETS, FOUR, LATE])
    assert codes(decide_batch(rows, Confirm("h", late=True))) == [None]


def test_who_finds_tickets_gets_them_at_once_though_others_wait_for_more() -> None:
    rows = working_set_after([*NO_TICKETS, FOUR, Release("h")])
    held, waiting = decide_batch(rows, Wait("jazz", 2, 900, "c"), Wait("jazz", 2, 900, "d"))
    until = DATE + 900 * SECOND
    assert held == BookingReply("c", "jazz", 2, "held", [], 0, 7, DATE, until)
    assert waiting == BookingReply("d", "jazz", 2, "waiting", [], 0, 8, DATE, position=2)


def test_who_waits_is_told_the_place_in_line() -> None:
    rows = working_set_after(LINE)
    [reply] = decide_batch(rows, Wait("jazz", 2, 900, "e"))
    assert reply == BookingReply("e", "jazz", 2, "waiting", [], 0, 8, DATE, position=5)
    decide_batch(rows, Release("z-four"), Release("i"))
    places = {id: getattr(decide(committed(rows), Show(id)), "position", None) for id in rows.bookings}
    assert places == {**dict.fromkeys(["b", "h", "i", "z-four", "y-one"]), "x-two": 1, "a-three": 2, "e": 3}


OFFERED: Steps = [*LINE, Release("h")]


@pytest.mark.parametrize(
    ("later", "wait", "state", "version"),
    [
        # As the first reply, but for the position: that has changed since.
        (LINE, TWO, "waiting", 5),
        (OFFERED, TWO, "waiting", 5),
        ([*OFFERED, Confirm("x-two")], TWO, "waiting", 5),
        ([*LINE, Release("x-two")], TWO, "waiting", 5),
        # Somebody else made room right after it joined, but it had been answered.
        ([*NO_TICKETS, TWO, Release("h")], TWO, "waiting", 4),
        # These had their tickets with the first reply.
        ([*NO_TICKETS, FOUR, Release("h"), TWO], TWO, "held", 7),
        ([*NO_TICKETS, FOUR, Release("h"), TWO, Confirm("x-two"), Cancel("x-two")], TWO, "held", 7),
        ([SIX, TWO, HOUR], TWO, "held", 2),
    ],
)
def test_a_wait_is_replayed_as_it_was_answered(later: Steps, wait: Wait, state: str, version: int) -> None:
    reply = replayed(later, wait)
    assert isinstance(reply, BookingReply)
    assert (reply.state, reply.version, reply.position) == (state, version, None)
    assert (reply.expires is None) == (state == "waiting")


@pytest.mark.parametrize(
    "other",
    [
        Wait("jazz", 3, 900, "x-two"),
        Wait("jazz", 2, 901, "x-two"),
        Wait("jazz", 2, 900, "x-two", "ben"),
        Hold("jazz", 2, 900, "x-two"),
        Book("jazz", 2, "x-two"),
        Wait("jazz", 2, 60, "h"),
        Wait("jazz", 3, 900, "b", "ben"),
    ],
)
@pytest.mark.parametrize("earlier", [LINE, OFFERED])
def test_another_booking_with_its_id_is_a_conflict(earlier: Steps, other: LedgerRequest) -> None:
    assert refused(earlier, other).code == "booking_conflict"


@pytest.mark.parametrize(
    ("earlier", "request_", "code", "says"),
    [
        (LINE, Confirm("x-two"), "bad_request", "still waits; show tells its position, release ends the wait"),
        (
            LINE,
            Confirm("x-two", late=True),
            "bad_request",
            "still waits; show tells its position, release ends the wait",
        ),
        (LINE, Extend("x-two", 60), "bad_request", "still waits; show tells its position, release ends the wait"),
        (LINE, Cancel("x-two"), "bad_request", "still waits; show tells its position, release ends the wait"),
        (LINE, Redeem("x-two"), "bad_request", "still waits; show tells its position, release ends the wait"),
        ([*LINE, Release("x-two")], Confirm("x-two"), "already_released", "with a new id"),
        ([SIX], Wait("jazz", 7, 900, "w"), "sold_out", "has 6 tickets in all, so nobody can wait for 7"),
        ([SIX, Amend("jazz", capacity=1)], Wait("jazz", 2, 900, "w"), "sold_out", "has 1 ticket in all"),
        ([SIX], Wait("rock", 1, 900, "w"), "event_not_found", "no event rock"),
        ([SIX, Amend("jazz", paused=True)], Wait("jazz", 1, 900, "w"), "not_on_sale", "paused"),
        ([SIX, Amend("jazz", opens=DATE + HOUR)], Wait("jazz", 1, 900, "w"), "not_on_sale", "opens at"),
        ([SIX, Amend("jazz", per_buyer=2)], Wait("jazz", 1, 900, "w"), "bad_request", "name the buyer"),
        ([SIX, Amend("jazz", per_buyer=2)], Wait("jazz", 3, 900, "w", "ben"), "buyer_limit", "may have 2 more"),
        # It was never sold or held, but it is in use.
        ([*LINE[:1], Wait("jazz", 6, 900, "w"), Release("w")], Delete("jazz"), "event_in_use", "jazz"),
    ],
)
def test_a_refusal_says_why(earlier: Steps, request_: LedgerRequest, code: str, says: str) -> None:
    refusal = refused(earlier, request_)
    assert (refusal.code, says in refusal.message) == (code, True), refusal


def test_an_offer_that_is_longer_than_a_hold_may_last_is_refused() -> None:
    rows = working_set_after(NO_TICKETS)
    rows.hold_seconds_total_max = 899
    assert codes(decide_batch(rows, TWO, Wait("jazz", 2, 899, "w"))) == ["bad_request", None]


def test_a_line_has_an_end() -> None:
    rows = working_set_after(LINE)
    rows.events["jazz"].waiting = WAITING_MAX - 1
    replies = decide_batch(rows, Wait("jazz", 1, 900, "last"), Wait("jazz", 1, 900, "more"), Release("last"))
    assert codes([*replies, *decide_batch(rows, Wait("jazz", 1, 900, "more"))]) == [
        None,
        "waiting_list_full",
        None,
        None,
    ]


def test_who_leaves_twice_has_left_once() -> None:
    left = replayed([*LINE, Release("x-two")], Release("x-two"))
    assert left == BookingReply("x-two", "jazz", 2, "released", [], 0, 8, DATE, replayed=True)


def test_a_batch_serves_all_lines_that_it_frees_tickets_for() -> None:
    rock = [Create("Rock", DATE, 1, "rock"), Hold("rock", 1, 60, "r"), Wait("rock", 1, 900, "late")]
    two_lines: Steps = [*LINE, *rock]
    assert offered(working_set_after(two_lines), Release("r"), Release("h")) == ["late", "x-two"]
    assert sorted(offered(working_set_after(two_lines), passed=LATE)) == ["late", "x-two"]


def test_a_page_of_bookings_tells_how_each_began() -> None:
    rows = committed(working_set_after([*LINE, 10 * SECOND, Release("h"), Release("z-four")]))
    rows.fill_page(Page("", 100), [rows.bookings[id] for id in sorted(rows.bookings)])
    reply = decide(rows, Bookings())
    assert isinstance(reply, BookingsReply)
    made = {record.id: (record.state, record.made, record.position) for record in reply.bookings}
    assert made["a-three"] == ("waiting", Made(0, 7, 900), 2)
    assert made["x-two"] == ("held", Made(0, 5, 900), None)
    assert made["z-four"] == ("released", Made(0, 4, 900), None)
