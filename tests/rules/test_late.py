"""``confirm --late``: a hold that ran out is taken again if its tickets are there, and never oversold."""

from datetime import timedelta

import pytest

from tests.rules.cases import (
    ALL_GONE,
    BOOK,
    CONFIRMED,
    DATE,
    END,
    EXPIRED,
    HELD,
    HOLD,
    JAZZ,
    LATE,
    RELEASED,
    SOLD,
    Steps,
    booked,
    codes,
    committed,
    decide,
    decide_batch,
    ended,
    held,
    of,
    refused,
    replayed,
    with_changes,
    working_set_after,
)
from ticketd.wire.replies import ChangeFacts
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Hold, Release, Show

HERS = of("h", 1, 2)
TAKEN: Steps = [*EXPIRED, Confirm("h", late=True)]


def test_a_hold_that_ran_out_is_sold_after_all() -> None:
    rows = working_set_after(EXPIRED)
    [reply] = decide_batch(rows, Confirm("h", late=True))
    assert reply == booked("h", HERS, 1, 3)
    shown = decide(committed(rows), Show("h"))
    assert shown == with_changes(reply, ChangeFacts("expire", END, 3, 2), ChangeFacts("confirm", END, 1, 3))


def test_it_may_run_out_in_the_very_batch_that_takes_it_again() -> None:
    rows = working_set_after(HELD)
    replies = decide_batch(rows, Confirm("h"), Confirm("h", late=True), Book("jazz", 2, "c"), passed=LATE)
    assert codes(replies) == ["hold_expired", None, "sold_out"]
    assert replies[1] == booked("h", HERS, 1, 3)
    event = rows.events["jazz"]
    assert (event.available, event.held, event.sold) == (1, 0, 2)


@pytest.mark.parametrize("late", [False, True])
def test_in_time_it_is_confirmed_as_ever(late: bool) -> None:
    assert decide(working_set_after(HELD), Confirm("h", late)) == booked("h", HERS, 1, 2)


@pytest.mark.parametrize("late", [False, True])
def test_it_is_replayed_as_any_confirm(late: bool) -> None:
    assert replayed(TAKEN, Confirm("h", late)) == booked("h", HERS, 1, 3, True)
    assert replayed([*TAKEN, LATE, Cancel("h", [HERS[0]])], Confirm("h", late)) == booked("h", HERS, 1, 3, True)


def test_the_hold_is_replayed_as_it_was() -> None:
    assert replayed(TAKEN, HOLD) == held(1, 1, True)


def test_it_can_be_cancelled_and_its_tickets_booked() -> None:
    rows = working_set_after(TAKEN)
    assert decide_batch(rows, Cancel("h"), Book("jazz", 3, "c")) == [
        booked("h", HERS, 3, 4, gone=HERS),
        booked("c", of("c", 3, 4, 5), 0, 5, at=END),
    ]


@pytest.mark.parametrize(
    ("earlier", "booking", "code"),
    [
        ([JAZZ], "h", "booking_not_found"),
        (SOLD, "b", "already_confirmed"),
        (RELEASED, "h", "already_released"),
        ([*RELEASED, LATE], "h", "already_released"),
        (ALL_GONE, "b", "already_cancelled"),
        ([*CONFIRMED, Cancel("h"), LATE], "h", "already_cancelled"),
        ([*EXPIRED, BOOK], "h", "hold_expired"),
        ([*EXPIRED, Hold("jazz", 2, 60, "i")], "h", "hold_expired"),
        ([*EXPIRED, Amend("jazz", capacity=1)], "h", "hold_expired"),
    ],
)
def test_nothing_else_is_taken_again(earlier: Steps, booking: str, code: str) -> None:
    assert refused(earlier, Confirm(booking, late=True)).code == code


def test_what_was_refused_is_taken_once_its_tickets_are_back() -> None:
    rows = working_set_after([*EXPIRED, BOOK])
    assert codes(decide_batch(rows, Confirm("h", late=True), Cancel("b"), Confirm("h", late=True))) == [
        "hold_expired",
        None,
        None,
    ]


def test_without_late_it_stays_expired() -> None:
    assert refused(EXPIRED, Confirm("h")).code == "hold_expired"
    assert refused(EXPIRED, Release("h")).code == "hold_expired"
    shown = decide(working_set_after(EXPIRED), Show("h"))
    assert shown == with_changes(ended("expired", 3, 2), ChangeFacts("expire", END, 3, 2))


def test_of_two_late_buyers_the_first_gets_the_last_tickets() -> None:
    rows = working_set_after([JAZZ, HOLD, LATE, Hold("jazz", 2, 60, "i"), LATE])
    assert codes(decide_batch(rows, Confirm("i", late=True), Confirm("h", late=True))) == [None, "hold_expired"]
    assert rows.events["jazz"].available == 1


def test_its_history_says_when_it_was_held_and_confirmed() -> None:
    rows = working_set_after([*EXPIRED, timedelta(hours=1)])
    decide_batch(rows, Confirm("h", late=True))
    shown = decide(committed(rows), Show("h"))
    confirmed = ChangeFacts("confirm", END + timedelta(hours=1), 1, 3)
    assert shown == with_changes(booked("h", HERS, 1, 3, at=DATE), ChangeFacts("expire", END, 3, 2), confirmed)
