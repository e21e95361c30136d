"""When an event is on sale: ``opens``, ``closes`` and ``paused``, to the millisecond."""

from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.cases import (
    DATE,
    Steps,
    codes,
    committed,
    decide,
    decide_batch,
    of,
    refused,
    replayed,
    working_set_after,
)
from ticketd.model import Event, milliseconds
from ticketd.rules.memory import Memory
from ticketd.rules.new_bookings import is_refused, refuse
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Create, Extend, Hold, Release

MS = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
OPENS, CLOSES = DATE + MINUTE, DATE + 2 * MINUTE


def sale(**terms: Any) -> Create:
    return Create("Jazz", DATE, 3, "jazz", **terms)


WINDOW = sale(opens=OPENS, closes=CLOSES)
NEW: list[Book | Hold] = [Book("jazz", 1, "n"), Hold("jazz", 1, 60, "n")]


@pytest.mark.parametrize("request_", NEW)
@pytest.mark.parametrize(
    ("passed", "sold"),
    [
        (timedelta(0), False),
        (MINUTE - MS, False),
        (MINUTE, True),
        (MINUTE + MS, True),
        (2 * MINUTE - MS, True),
        (2 * MINUTE, False),
        (3 * MINUTE, False),
    ],
)
def test_it_is_sold_from_opens_and_before_closes(request_: Book | Hold, passed: timedelta, sold: bool) -> None:
    [reply] = decide_batch(working_set_after([WINDOW]), request_, passed=passed)
    assert codes([reply]) == [None if sold else "not_on_sale"]


@pytest.mark.parametrize("request_", NEW)
@pytest.mark.parametrize(
    ("terms", "passed", "opens", "says"),
    [
        ({"opens": OPENS}, MINUTE - MS, OPENS, "opens at 2027-03-11T20:01:00Z"),
        ({"opens": OPENS, "closes": CLOSES}, timedelta(0), OPENS, "opens at 2027-03-11T20:01:00Z"),
        ({"opens": OPENS, "paused": True}, timedelta(0), OPENS, "opens at 2027-03-11T20:01:00Z"),
        ({"opens": OPENS, "paused": True}, MINUTE, None, "is paused"),
        ({"paused": True}, MINUTE, None, "is paused"),
        ({"closes": CLOSES}, 2 * MINUTE, None, "closed at 2027-03-11T20:02:00Z"),
        ({"opens": OPENS, "closes": CLOSES}, 2 * MINUTE, None, "closed at 2027-03-11T20:02:00Z"),
        ({"closes": CLOSES, "paused": True}, 2 * MINUTE, None, "closed at 2027-03-11T20:02:00Z"),
    ],
)
def test_not_on_sale_says_why_and_when_it_opens(
    request_: Book | Hold, terms: dict[str, Any], passed: timedelta, opens: datetime | None, says: str
) -> None:
    refusal = refused([sale(**terms), passed], request_)
    assert refusal == ErrorReply("not_on_sale", refusal.message, available=3, version=0, opens=opens)
    assert says in refusal.message


@pytest.mark.parametrize(
    ("earlier", "request_", "code"),
    [
        # First of all, what is known is a replay or a conflict.
        ([WINDOW, MINUTE, Book("jazz", 3, "b"), MINUTE], Book("jazz", 2, "b"), "booking_conflict"),
        ([WINDOW], Book("nope", 9, "n"), "event_not_found"),
        ([sale(opens=OPENS, per_buyer=1)], Book("jazz", 9, "n"), "not_on_sale"),
        ([sale(paused=True, per_buyer=1)], Hold("jazz", 9, 60, "n", "anna"), "not_on_sale"),
        ([sale(per_buyer=1)], Book("jazz", 9, "n"), "bad_request"),
        ([sale(per_buyer=1)], Hold("jazz", 9, 60, "n"), "bad_request"),
        ([sale(per_buyer=1)], Book("jazz", 9, "n", "anna"), "sold_out"),
        ([sale(per_buyer=1)], Book("jazz", 3, "n", "anna"), "buyer_limit"),
    ],
)
def test_refusals_come_in_their_order(earlier: Steps, request_: LedgerRequest, code: str) -> None:
    assert refused(earlier, request_).code == code


@pytest.mark.parametrize("after", [[Amend("jazz", paused=True)], [MINUTE], [Amend("jazz", closes=DATE + MS), MS]])
def test_what_is_held_lives_on_when_nothing_is_sold(after: Steps) -> None:
    earlier: Steps = [sale(closes=OPENS), Hold("jazz", 1, 3_600, "h"), Hold("jazz", 1, 3_600, "i"), *after]
    working_set = working_set_after(earlier)
    replies = decide_batch(working_set, Extend("h", 7_200), Confirm("h"), Release("i"), Cancel("h"))
    assert codes(replies) == [None] * 4
    assert codes(decide_batch(working_set, Book("jazz", 1, "n"))) == ["not_on_sale"]


def test_a_hold_that_ran_out_is_confirmed_after_the_sale() -> None:
    working_set = working_set_after([sale(closes=OPENS), Hold("jazz", 1, 60, "h"), MINUTE])
    [reply] = decide_batch(working_set, Confirm("h", late=True))
    assert isinstance(reply, BookingReply)
    assert reply.tickets == of("h", 1)


def test_replays_are_answered_when_nothing_is_sold() -> None:
    earlier: Steps = [sale(closes=OPENS), Book("jazz", 1, "b"), Hold("jazz", 1, 3_600, "h"), MINUTE]
    replayed(earlier, Book("jazz", 1, "b"))
    replayed(earlier, Hold("jazz", 1, 3_600, "h"))


def test_amend_opens_a_sale_and_none_clears() -> None:
    working_set = working_set_after([WINDOW])
    replies = decide_batch(working_set, Amend("jazz", opens=None), Book("jazz", 1, "b"))
    assert replies[0] == EventReply("jazz", "Jazz", DATE, 3, 3, 0, 0, 1, closes=CLOSES)
    assert codes(replies) == [None, None]
    replies = decide_batch(working_set, Amend("jazz", paused=True), Book("jazz", 1, "c"), Amend("jazz", paused=False))
    assert codes(replies) == [None, "not_on_sale", None]
    [reply] = decide_batch(working_set, Amend("jazz", closes=None))
    assert reply == EventReply("jazz", "Jazz", DATE, 3, 2, 0, 1, 5)


@pytest.mark.parametrize(
    "amendment",
    [
        Amend("jazz", opens=CLOSES),
        Amend("jazz", opens=CLOSES + MS),
        Amend("jazz", closes=OPENS),
        Amend("jazz", closes=DATE),
    ],
)
def test_amend_never_leaves_a_sale_that_closes_before_it_opens(amendment: Amend) -> None:
    refusal = refused([WINDOW], amendment)
    assert (refusal.code, "closes must be later than opens" in refusal.message) == ("bad_request", True)


def test_amend_of_a_sale_to_what_it_is_changes_nothing() -> None:
    replayed([WINDOW], Amend("jazz", opens=OPENS, closes=CLOSES, paused=False, per_buyer=None))
    replayed([sale(paused=True, per_buyer=2)], Amend("jazz", paused=True, per_buyer=2, opens=None))


@pytest.mark.parametrize("other", [sale(), sale(opens=OPENS), sale(opens=OPENS, closes=CLOSES, paused=True)])
def test_another_sale_is_another_event(other: Create) -> None:
    replayed([WINDOW, Amend("jazz", opens=None, closes=None)], WINDOW)
    assert refused([WINDOW, Amend("jazz", opens=None, closes=None)], other).code == "event_exists"


TIMES = st.none() | st.integers(-3, 3).map(lambda count: DATE + count * MS)
ANY_TERMS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"opens": TIMES, "closes": TIMES, "paused": st.booleans()}
)
TERMS = ANY_TERMS.filter(lambda terms: not (terms["opens"] and terms["closes"] and terms["closes"] <= terms["opens"]))


class Settled:
    """What is_refused asks a memory for, if nothing waits."""

    def __init__(self, working_set: WorkingSet) -> None:
        self._events, self._now = working_set.events, working_set.now

    def now(self) -> int:
        return self._now

    def event(self, event_id: str) -> Event | None:
        return self._events.get(event_id)

    def is_settled(self, event_id: str) -> bool:
        return True


@given(TERMS, st.integers(0, 4), st.sampled_from(NEW))
def test_memory_and_a_commit_agree_on_when_it_is_sold(terms: Any, passed: int, request: Book | Hold) -> None:
    working_set = committed(working_set_after([sale(**terms)]), passed * MS)
    now, opens, closes = DATE + passed * MS, terms["opens"], terms["closes"]
    sold = not terms["paused"] and (opens is None or opens <= now) and (closes is None or now < closes)
    memory = cast(Memory, Settled(working_set))
    unnamed = type(request)("jazz", 1)
    assert is_refused(memory, unnamed) != sold
    refusal = refuse(memory, unnamed)
    decided = decide(working_set, request)
    assert isinstance(decided, BookingReply if sold else ErrorReply)
    if isinstance(decided, ErrorReply):
        assert refusal == decided
        assert decided.opens == (opens if opens and opens > now else None)


def test_a_sale_that_begins_while_memory_refuses_is_busy() -> None:
    working_set = working_set_after([sale(opens=DATE)])
    assert milliseconds(DATE) == working_set.now
    assert codes([refuse(cast(Memory, Settled(working_set)), Book("jazz", 1))]) == ["busy"]
