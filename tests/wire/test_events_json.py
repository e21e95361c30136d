"""events.json: whatever the ledger writes into it, it reads again as the same."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from tests.wire.strategies import JAZZ, REQUESTS_OF
from ticketd.model import Event, milliseconds, opt_time_of
from ticketd.rules.events import create
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.events_json import EventsJsonError, FileEvent, decode_file, encode_file, file_events
from ticketd.wire.requests import Create


def created(request: Create) -> Event:
    """Return the event that a request creates."""
    working_set = WorkingSet(str, milliseconds(JAZZ))
    create(working_set, request)
    [event] = working_set.changed_events.values()
    return event


def file_of(**fields: Any) -> bytes:
    event = {"ID": "1", "Name": "Jazz", "Date": "2027-03-11T20:00:00Z", "TotalTickets": 9, "AvailableTickets": 9}
    return json.dumps({"events": [event | fields]}).encode()


@given(REQUESTS_OF[Create])
def test_every_event_that_can_be_made_is_read_from_the_file(request: Create) -> None:
    event = created(request)
    written = file_events([event])
    [read] = decode_file(b"".join(encode_file(written)))
    assert [read] == written
    again = read.event()
    assert (again.opens, again.closes) == (event.opens, event.closes)
    assert opt_time_of(again.opens) == read.opens


@pytest.mark.parametrize(
    ("fields", "opens", "closes"),
    [
        ({}, None, None),
        ({"Opens": None, "Closes": None}, None, None),
        ({"Opens": "2027-03-11T21:00:00+01:00"}, JAZZ, None),
        ({"Opens": "2027-03-11T19:59:59.9991Z", "Closes": "9999-12-31T23:59:59.999Z"}, JAZZ, ...),
    ],
)
def test_the_file_says_when_an_event_is_on_sale(fields: Any, opens: datetime | None, closes: Any) -> None:
    [read] = decode_file(file_of(**fields))
    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
    assert (read.opens, read.closes) == (opens, last if closes is ... else closes)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"Opens": "2027-03-11T20:00:00"}, "Opens"),
        ({"Closes": "2027-03-11"}, "Closes"),
        ({"Opens": 5}, "Opens"),
        ({"Opens": "9999-12-31T23:59:59.9991Z"}, "Opens must be within the years 1 to 9999"),
        ({"Closes": "0001-01-01T00:00:00+01:00"}, "Closes must be within the years 1 to 9999"),
        ({"Opens": "2027-03-11T20:00:00Z", "Closes": "2027-03-11T20:00:00Z"}, "Closes must be later than Opens"),
        # The same millisecond, as it is kept.
        ({"Opens": "2027-03-11T20:00:00.0001Z", "Closes": "2027-03-11T20:00:00.0002Z"}, "Closes must be later"),
    ],
)
def test_a_sale_that_cannot_be_is_refused(fields: Any, says: str) -> None:
    with pytest.raises(EventsJsonError, match=says):
        decode_file(file_of(**fields))


def test_what_is_not_said_is_not_written() -> None:
    [line] = file_events([Event("1", "Jazz", JAZZ, 9, 9, 0, 0, 0, 0)])
    assert line == FileEvent("1", "Jazz", JAZZ, 9, 9)
    assert b"Opens" not in b"".join(encode_file([line]))
