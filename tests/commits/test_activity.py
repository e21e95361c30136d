"""What ``stats`` counts for each event, and what the log says of refusals."""

from datetime import UTC, datetime

import pytest

from ticketd.commits.activity import EVENTS_COUNTED_MAX, EVENTS_SHOWN_MAX, Activity
from ticketd.commits.catalogue import Catalogue
from ticketd.model import Event, milliseconds
from ticketd.wire.requests import Book, Confirm

DATE = datetime(2027, 3, 11, tzinfo=UTC)
SOLD_OUT, CLOSED = "sold_out", "not_on_sale"


def clock() -> int:
    return milliseconds(DATE)


def activity_of(events: int) -> Activity:
    return Activity(Catalogue([Event(f"e{number}", "Jazz", DATE, 9, 9, 0, 0, 0, 0) for number in range(events)]), clock)


def test_the_busiest_events_are_shown_and_no_more_of_them() -> None:
    activity = activity_of(EVENTS_SHOWN_MAX + 50)
    for number in range(EVENTS_SHOWN_MAX + 50):
        for _ in range(number + 1):
            activity.count_refusal(Book(f"e{number}", 1), SOLD_OUT)
    shown = activity.busiest()
    assert [stats.id for stats in shown] == [f"e{number}" for number in range(EVENTS_SHOWN_MAX + 49, 49, -1)]
    assert shown[0].refused == {"sold_out": EVENTS_SHOWN_MAX + 50}


def test_counts_are_kept_of_a_bounded_number_of_events() -> None:
    activity = activity_of(EVENTS_COUNTED_MAX + 10)
    for number in range(EVENTS_COUNTED_MAX + 10):
        activity.count_refusal(Book(f"e{number}", 1), SOLD_OUT)
    assert len(activity._events) == EVENTS_COUNTED_MAX
    # They are all in the sum.
    assert activity.refused == EVENTS_COUNTED_MAX + 10


def test_deleted_events_make_room_for_others() -> None:
    events = [Event(f"e{number}", "Jazz", DATE, 9, 9, 0, 0, 0, 0) for number in range(EVENTS_COUNTED_MAX + 1)]
    catalogue = Catalogue(events)
    activity = Activity(catalogue, clock)
    activity.log_summary(10.0)
    for event in events:
        activity.count_refusal(Book(event.id, 1), SOLD_OUT)
    catalogue.remove([event.id for event in events[:9_000]])
    activity.log_summary(11.0)
    activity.count_refusal(Book(events[-1].id, 1), SOLD_OUT)
    assert len(activity._events) == EVENTS_COUNTED_MAX - 9_000 + 1


def test_events_that_do_not_exist_take_no_memory() -> None:
    activity = activity_of(1)
    for number in range(1_000):
        activity.count_refusal(Book(f"nowhere{number}", 1), "event_not_found")
    activity.count_refusal(Confirm("nothing"), "booking_not_found")
    assert not activity._events
    assert activity.refused == 1_001


def test_refusals_have_a_line_for_each_code_and_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ticketd.commits.activity")

    def lines() -> list[str]:
        said = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return said

    activity = activity_of(1)
    activity.log_summary(10.0)
    for _ in range(500):
        activity.count_refusal(Book("e0", 1), SOLD_OUT)
        activity.count_refusal(Book("e0", 1), CLOSED)
    activity.log_summary(10.9)
    assert lines() == []
    activity.log_summary(11.0)
    assert lines() == ["refused code=sold_out requests=500", "refused code=not_on_sale requests=500"]
    activity.count_refusal(Book("e0", 1), CLOSED)
    activity.log_summary(12.3)
    activity.log_summary(13.3)
    assert lines() == ["refused code=not_on_sale requests=1"]
