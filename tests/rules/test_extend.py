"""``extend``: a hold lives longer, never past the ceiling, and nothing else does."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.cases import (
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
    held,
    jazz,
    of,
    refused,
    replayed,
    with_changes,
    working_set_after,
)
from ticketd.model import milliseconds
from ticketd.wire.replies import BookingReply, ChangeFacts
from ticketd.wire.requests import Book, Cancel, Confirm, Extend, Hold, Release, Show

SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)


def expires(reply: object) -> timedelta | None:
    """Return how long after its begin a hold ends."""
    assert isinstance(reply, BookingReply)
    return None if reply.expires is None else reply.expires - DATE


def test_a_hold_lives_so_many_seconds_from_now() -> None:
    rows = working_set_after([*HELD, 10 * SECOND])
    [reply] = decide_batch(rows, Extend("h", 60))
    later = DATE + 70 * SECOND
    assert reply == BookingReply("h", "jazz", 2, "held", [], 1, 2, DATE, later)
    shown = decide(committed(rows), Show("h"))
    assert shown == with_changes(reply, ChangeFacts("extend", DATE + 10 * SECOND, 1, 2, expires=later))
    assert decide(committed(rows), Show("jazz")) == jazz(1, 2, 0, 2)


def test_an_extended_hold_ends_at_its_new_time_to_the_millisecond() -> None:
    rows = working_set_after([*HELD, 30 * SECOND])
    decide_batch(rows, Extend("h", 60))
    early = committed(rows, 60 * SECOND - MS)
    assert not early.due
    assert codes([decide(early, Confirm("h"))]) == [None]
    assert codes(decide_batch(rows, Confirm("h"), passed=60 * SECOND)) == ["hold_expired"]
    assert rows.events["jazz"].available == 3


@pytest.mark.parametrize(("passed", "seconds"), [(0, 60), (0, 1), (10, 50), (58.999, 1), (59, 1)])
def test_an_extension_that_adds_nothing_is_replayed(passed: float, seconds: int) -> None:
    assert replayed([*HELD, timedelta(seconds=passed)], Extend("h", seconds)) == held(1, 1, True)


def test_the_same_extension_at_once_is_replayed() -> None:
    reply = replayed([*HELD, Extend("h", 90)], Extend("h", 90))
    assert (expires(reply), getattr(reply, "version", None)) == (90 * SECOND, 2)


@pytest.mark.parametrize(
    ("total", "passed", "seconds", "lives"),
    [(100, 50, 50, 100), (100, 50, 51, 100), (100, 50, 86_400, 100), (100, 50, 49, 99), (86_400, 50, 86_400, 86_400)],
)
def test_a_hold_never_lives_past_the_ceiling(total: int, passed: int, seconds: int, lives: int) -> None:
    working_set = working_set_after([*HELD, passed * SECOND])
    working_set.hold_seconds_total_max = total
    assert expires(decide(working_set, Extend("h", seconds))) == lives * SECOND


def test_at_the_ceiling_an_extension_is_replayed() -> None:
    working_set = working_set_after(HELD)
    working_set.hold_seconds_total_max = 100
    assert not getattr(decide(working_set, Extend("h", 200)), "replayed", True)
    for passed in (timedelta(0), 50 * SECOND, 50 * SECOND - MS):
        working_set = committed(working_set, passed)
        reply = decide(working_set, Extend("h", 200))
        assert (expires(reply), getattr(reply, "replayed", None)) == (100 * SECOND, True)
        assert not working_set.changed
    assert codes(decide_batch(working_set, Extend("h", 200), passed=MS)) == ["hold_expired"]


def test_a_hold_is_never_cut_short_by_a_lower_ceiling() -> None:
    working_set = working_set_after(HELD)
    working_set.hold_seconds_total_max = 30
    reply = decide(working_set, Extend("h", 3_600))
    assert (expires(reply), getattr(reply, "replayed", None)) == (60 * SECOND, True)


def test_a_hold_longer_than_the_ceiling_is_not_made() -> None:
    working_set = working_set_after([JAZZ])
    working_set.hold_seconds_total_max = 59
    before = committed(working_set)
    assert codes([decide(working_set, HOLD)]) == ["bad_request"]
    assert vars(working_set) == vars(before)
    assert codes([decide(working_set, Hold("jazz", 2, 59, "h"))]) == [None]


def test_a_hold_of_before_a_lower_ceiling_is_replayed() -> None:
    working_set = working_set_after(HELD)
    working_set.hold_seconds_total_max = 59
    assert decide(working_set, HOLD) == held(1, 1, True)


@pytest.mark.parametrize(
    ("earlier", "booking", "code"),
    [
        ([JAZZ], "x", "booking_not_found"),
        (SOLD, "b", "already_confirmed"),
        (CONFIRMED, "h", "already_confirmed"),
        (EXPIRED, "h", "hold_expired"),
        ([*HELD, Extend("h", 61), timedelta(seconds=61)], "h", "hold_expired"),
        (RELEASED, "h", "already_released"),
        ([*CONFIRMED, Cancel("h")], "h", "already_cancelled"),
        ([*EXPIRED, Confirm("h", late=True)], "h", "already_confirmed"),
    ],
)
def test_only_what_is_held_is_extended(earlier: Steps, booking: str, code: str) -> None:
    assert refused(earlier, Extend(booking, 3_600)).code == code


def test_the_original_hold_is_replayed_with_its_original_end() -> None:
    assert replayed([*HELD, Extend("h", 600)], HOLD) == held(1, 1, True)
    assert replayed([*HELD, Extend("h", 600), Release("h")], HOLD) == held(1, 1, True)


def test_an_extended_hold_is_confirmed_and_released_as_any_other() -> None:
    rows = working_set_after([*HELD, Extend("h", 600), LATE])
    assert decide(rows, Confirm("h")) == booked("h", of("h", 1, 2), 1, 3)
    rows = working_set_after([*HELD, Extend("h", 600), LATE])
    assert decide_batch(rows, Release("h"), Extend("h", 700), Book("jazz", 3, "b"))[2] == booked(
        "b", of("b", 1, 2, 3), 0, 4, at=END
    )


def test_a_booking_is_not_extended_without_end() -> None:
    # Each extension is kept in the history of the booking, which has to fit into a reply.
    working_set = working_set_after(HELD)
    extended = 0
    for _ in range(2_000):
        working_set.now += 1
        reply = decide(working_set, Extend("h", 60))
        if codes([reply]) != [None]:
            break
        extended += 1
    assert codes([reply]) == ["bad_request"]
    assert extended == 1_000
    assert codes([decide(working_set, Confirm("h"))]) == [None]


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 200))), st.integers(60, 400))
def test_however_often_it_is_extended_it_ends_between_its_bounds(steps: list[tuple[int, int]], total: int) -> None:
    rows = working_set_after(HELD)
    rows.hold_seconds_total_max = total
    for passed, seconds in steps:
        was = rows.bookings["h"].expires
        assert was is not None
        [reply] = decide_batch(rows, Extend("h", seconds), passed=passed * SECOND)
        now = rows.bookings["h"].expires
        assert now is not None
        if was <= rows.now:
            assert codes([reply]) == ["hold_expired"]
            return
        assert was <= now <= milliseconds(DATE) + total * 1_000
        assert now >= min(rows.now + seconds * 1_000, milliseconds(DATE) + total * 1_000)
