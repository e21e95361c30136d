"""When an event is on sale, as it comes in: whole milliseconds in UTC, in their order."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from msgspec import UNSET, UnsetType

from tests.wire.strategies import DATES, JAZZ
from ticketd.model import milliseconds, time_of
from ticketd.wire.window import checked_window

Moment = datetime | UnsetType | None

LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("microsecond", "kept"), [(0, 0), (1, 1_000), (999, 1_000), (1_000, 1_000), (1_001, 2_000), (999_000, 999_000)]
)
def test_a_time_is_rounded_up_to_a_millisecond_in_utc(microsecond: int, kept: int) -> None:
    there = datetime(2027, 3, 11, 22, 0, 0, microsecond, timezone(timedelta(hours=2)))
    time, _ = checked_window(there, None)
    assert isinstance(time, datetime)
    assert time.isoformat(timespec="microseconds") == f"2027-03-11T20:00:00.{kept:06}+00:00"


@given(DATES)
def test_what_is_kept_is_kept_as_it_is(time: datetime) -> None:
    opens, _ = checked_window(time, None)
    assert isinstance(opens, datetime)
    assert time_of(milliseconds(opens)) == opens
    assert checked_window(opens, None) == (opens, None)
    assert timedelta(0) <= opens - time < timedelta(milliseconds=1)


@pytest.mark.parametrize("opens", [None, UNSET, JAZZ])
@pytest.mark.parametrize("closes", [None, UNSET, JAZZ + 1_000 * MICROSECOND, LAST])
def test_what_is_not_said_and_what_is_cleared_stay_so(opens: Moment, closes: Moment) -> None:
    assert checked_window(opens, closes) == (opens, closes)


@pytest.mark.parametrize(
    ("opens", "closes", "says"),
    [
        (JAZZ, JAZZ, "^closes must be later than opens"),
        (JAZZ, JAZZ - MICROSECOND, "^closes must be later than opens"),
        # The same millisecond, as it is kept.
        (JAZZ + MICROSECOND, JAZZ + 2 * MICROSECOND, "^closes must be later than opens"),
        (None, LAST + MICROSECOND, "^closes must be within the years 1 to 9999"),
        (datetime.max.replace(tzinfo=UTC), UNSET, "^opens must be within the years 1 to 9999"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), UNSET, "^opens must be within the years 1 to 9999"),
    ],
)
def test_a_window_that_cannot_be_is_refused(opens: Moment, closes: Moment, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        checked_window(opens, closes)
