"""``delete``: an event whose tickets were never sold or held goes, and any other stays."""

import pytest

from tests.rules.cases import (
    DATE,
    EXPIRED,
    HELD,
    JAZZ,
    LATE,
    OLD,
    PARTLY,
    SOLD,
    Steps,
    codes,
    committed,
    decide,
    decide_batch,
    event,
    jazz,
    refused,
    working_set_after,
)
from ticketd.rules.working_set import Adopt
from ticketd.wire.replies import EventReply
from ticketd.wire.requests import Amend, Book, Cancel, Create, Delete, Hold, Release

GONE: Steps = [JAZZ, Book("jazz", 1, "b"), Cancel("b")]


def test_what_nobody_had_a_ticket_of_is_removed() -> None:
    rows = working_set_after([JAZZ, OLD])
    assert decide_batch(rows, Delete("jazz")) == [jazz(3, 0, 0, 0)]
    assert list(rows.events) == ["old"]
    assert codes(decide_batch(rows, Delete("jazz"), Book("jazz", 1, "b"))) == ["event_not_found"] * 2


@pytest.mark.parametrize(
    "amendments",
    [[Amend("jazz", "Bebop")], [Amend("jazz", capacity=9), Amend("jazz", paused=True), Amend("jazz", per_buyer=1)]],
)
def test_amendments_do_not_keep_an_event(amendments: Steps) -> None:
    rows = working_set_after([JAZZ, *amendments])
    assert codes(decide_batch(rows, Delete("jazz"))) == [None]
    assert not rows.events


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param(SOLD, id="sold"),
        pytest.param(HELD, id="held"),
        pytest.param(GONE, id="sold and cancelled"),
        pytest.param([*HELD, Release("h")], id="held and released"),
        pytest.param(EXPIRED, id="held, and ran out"),
        pytest.param([*EXPIRED, Amend("jazz", "Bebop")], id="ran out, and amended"),
        pytest.param([Amend("jazz", "Bebop"), *GONE[1:]], id="amended, sold and cancelled"),
        pytest.param([PARTLY], id="sold elsewhere"),
    ],
)
def test_what_was_ever_sold_or_held_stays(earlier: Steps) -> None:
    earlier = earlier if earlier[0] in (JAZZ, PARTLY) else [JAZZ, *earlier]
    refusal = refused(earlier, Delete("jazz"))
    assert refusal.code == "event_in_use"
    assert "amend jazz --paused" in refusal.message
    assert refusal.available == working_set_after(earlier).events["jazz"].available


def test_a_hold_that_runs_out_in_the_same_batch_keeps_its_event() -> None:
    assert codes(decide_batch(working_set_after(HELD), Delete("jazz"), passed=LATE)) == ["event_in_use"]


@pytest.mark.parametrize("request_", [Delete("nope"), Delete("b")])
def test_an_event_that_is_not_there_is_not_found(request_: Delete) -> None:
    assert refused(SOLD, request_).code == "event_not_found"


def test_it_does_not_come_back_from_the_file() -> None:
    rows = working_set_after([OLD])
    rows.events["old"].sold_elsewhere = rows.events["old"].sold = 0
    rows.events["old"].available = 3
    again = Adopt(event("old", 3, 3))
    assert codes(decide_batch(rows, Delete("old"), again)) == [None, None]
    assert not rows.events
    decide_batch(rows, again)
    assert not rows.events


def test_create_may_use_its_id_again() -> None:
    rows = working_set_after([JAZZ])
    other = Create("Rock", DATE, 5, "jazz")
    assert codes(decide_batch(rows, other, Delete("jazz"), other)) == ["event_exists", None, None]
    assert rows.events["jazz"].name == "Rock"
    # The file may show it now.
    [reply] = decide_batch(rows, Adopt(event("jazz", 9, 9)))
    assert reply == EventReply("jazz", "Rock", DATE, 5, 5, 0, 0, 0)
    assert codes(decide_batch(rows, Book("jazz", 5, "b"), Delete("jazz"))) == [None, "event_in_use"]


def test_what_a_batch_makes_and_removes_is_not_there() -> None:
    rows = working_set_after([])
    assert codes(decide_batch(rows, JAZZ, Delete("jazz"), Hold("jazz", 1, 60, "h"))) == [None, None, "event_not_found"]
    assert (rows.events, rows.bookings) == ({}, {})


def test_what_a_batch_sold_stays() -> None:
    rows = working_set_after([JAZZ])
    assert codes(decide_batch(rows, Book("jazz", 1, "b"), Delete("jazz"))) == [None, "event_in_use"]
    assert rows.events["jazz"].sold == 1


def test_it_makes_room_for_another_event() -> None:
    working_set = committed(working_set_after([JAZZ]))
    working_set.events_left = 0
    assert codes([decide(working_set, OLD), decide(working_set, Delete("jazz")), decide(working_set, OLD)]) == [
        "too_many_events",
        None,
        None,
    ]
