"""Who waits, or might, is told what is wrong and what to do."""

import pytest

from tests.rules.cases import DATE, working_set_after
from ticketd.model import WAITING_MAX
from ticketd.rules.commands import decide_all
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import Book, Cancel, Confirm, Create, Extend, Hold, Redeem, Release, Wait

JAZZ = Create("Jazz", DATE, 3, "jazz", per_buyer=3)
FULL = Book("jazz", 3, "all", "anna")
WAITS = Wait("jazz", 2, booking="w", buyer="ben")
STILL = "booking w still waits; show tells its position, release ends the wait"

# What was asked before, what is asked now, the code and the message.
TOLD: list[tuple[list[LedgerRequest], LedgerRequest, str, str]] = [
    (
        [Book("jazz", 2, "b", "anna")],
        Book("jazz", 2, "c", "ben"),
        "sold_out",
        "event jazz has 1 left, fewer than 2; wait jazz 2 joins the waiting list",
    ),
    (
        [FULL],
        Hold("jazz", 1, booking="h", buyer="ben"),
        "sold_out",
        "event jazz has no tickets left; wait jazz 1 joins the waiting list",
    ),
    # Nobody can wait for so many.
    ([], Book("jazz", 4, "b", "anna"), "sold_out", "event jazz has 3 left, fewer than 4"),
    (
        [],
        Wait("jazz", 4, booking="w", buyer="anna"),
        "sold_out",
        "event jazz has 3 tickets in all, so nobody can wait for 4",
    ),
    (
        [FULL, WAITS],
        Wait("jazz", 2, booking="x", buyer="ben"),
        "buyer_limit",
        "event jazz sells at most 3 tickets to a buyer; this buyer has, or waits for, 2, and may have 1 more",
    ),
    ([FULL, WAITS], Confirm("w"), "bad_request", STILL),
    ([FULL, WAITS], Confirm("w", late=True), "bad_request", STILL),
    ([FULL, WAITS], Extend("w", 60), "bad_request", STILL),
    ([FULL, WAITS], Cancel("w"), "bad_request", STILL),
    ([FULL, WAITS], Redeem("w"), "bad_request", STILL),
    (
        [FULL, WAITS, Release("w")],
        Confirm("w"),
        "already_released",
        "booking w left the waiting list; begin again, with a new id",
    ),
    (
        [FULL, WAITS, Cancel("all"), Release("w")],
        Confirm("w"),
        "already_released",
        "booking w was released; hold or book again, with a new id",
    ),
    (
        [FULL, WAITS],
        Hold("jazz", 2, 900, booking="w", buyer="ben"),
        "booking_conflict",
        "booking w exists already: 2 of event jazz, waited for, then held for 900 s; use a new booking id",
    ),
]


@pytest.mark.parametrize(("before", "request_", "code", "message"), TOLD)
def test_a_refusal_says_what_to_do(
    before: list[LedgerRequest], request_: LedgerRequest, code: str, message: str
) -> None:
    *_, reply = decide_all(working_set_after([JAZZ]), [*before, request_])
    assert isinstance(reply, ErrorReply)
    assert (reply.code, reply.message) == (code, message)


def test_a_full_waiting_list_says_how_long_it_is() -> None:
    working_set = working_set_after([JAZZ])
    working_set.events["jazz"].waiting = WAITING_MAX
    [reply] = decide_all(working_set, [WAITS])
    assert reply == ErrorReply(
        "waiting_list_full", "the waiting list of event jazz is full, with 100,000 bookings; try again later", 3, 0
    )
