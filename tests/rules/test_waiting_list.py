"""A part of a line is enough: what is offered batch by batch is what would be offered if the whole line were read."""

import gc
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, repeat

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.rules.cases import DATE
from ticketd.model import Booking, Event, milliseconds
from ticketd.rules.commands import decide_all, read_set
from ticketd.rules.waiting import offer_budgets, serve
from ticketd.rules.waiting_list import OFFERED_PER_BATCH_MAX, WaitingList
from ticketd.rules.working_set import LedgerRequest, ReadSet, WorkingSet
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Extend, Hold, Redeem, Release, Show

CAPACITY = 1_000_000
QUANTITIES = st.sampled_from([1, 130, 200, 335, 600, 1_000])


def waiting(quantities: list[int], *, limited: bool = False) -> list[Booking]:
    """Return bookings that wait, in the order in which they joined. If they are ``limited``, each has a buyer."""
    return [
        Booking(
            f"w{number}", "e", quantity, "waiting", [], 0, number + 1, 0, 60, None, f"b{number}" if limited else None
        )
        for number, quantity in enumerate(quantities)
    ]


def read_for(budget: int, line: list[Booking]) -> WaitingList:
    """Return the part of a line that a ledger reads."""
    queues = defaultdict(list)
    for booking in line:
        queues[booking.quantity].append(booking)
    first = [booking for quantity, queue in queues.items() for booking in queue[: budget // quantity]]
    return WaitingList(first, budget, min((quantity for quantity in queues if quantity > budget), default=math.inf))


def served(
    line: list[Booking], available: int, budgets: Iterator[float], per_buyer: int | None = None
) -> tuple[list[str], int]:
    """Return who is offered tickets in batches that offer at most so many, in order, and what is available then."""
    event = Event("e", "E", DATE, CAPACITY, available, 0, CAPACITY - available, len(line), CAPACITY - available)
    event.waiting, event.per_buyer = len(line), per_buyer
    offered: list[str] = []
    for most in budgets:
        working_set = WorkingSet(str, 1)
        working_set.owned = {("e", str(booking.buyer)): booking.quantity for booking in line}
        left = [booking for booking in line if booking.state == "waiting"]
        budget = most if most == math.inf else min(event.available, int(most))
        working_set.waiting_lists["e"] = WaitingList(left) if budget == math.inf else read_for(int(budget), left)
        serve(working_set, event)
        offered += [booking.id for booking in working_set.offered]
        assert sum(booking.quantity for booking in working_set.offered) <= budget
        if not working_set.unserved:
            break
    return offered, event.available


@example([600, 600, 1], 5_000, [], None)
@example([335] * 8, 5_000, [], None)
@example([335, 335, 130], 600, [], 200)
@example([600, 1], 700, [500], None)
@given(
    st.lists(QUANTITIES, max_size=20),
    st.integers(0, 10_000),
    st.lists(st.integers(0, OFFERED_PER_BATCH_MAX), max_size=5),
    st.none() | QUANTITIES,
)
def test_a_part_of_a_line_is_served_as_the_whole(
    quantities: list[int], available: int, budgets: list[int], per_buyer: int | None
) -> None:
    """Of some batches, other events take most of the budget."""
    limited = per_buyer is not None
    whole = served(waiting(quantities, limited=limited), available, repeat(math.inf), per_buyer)
    batches = chain(budgets, repeat(OFFERED_PER_BATCH_MAX, 100))
    assert served(waiting(quantities, limited=limited), available, batches, per_buyer) == whole


def test_who_joins_behind_others_that_were_not_read_does_not_overtake_them() -> None:
    [first, second, joined] = waiting([2, 2, 2])
    line = read_for(2, [first, second])
    line.add(joined)
    first.state = "released"
    # The second one is first now, and was not read.
    assert line.first(2) is None
    assert line.may_be_unread(2)
    assert not line.may_be_unread(1)


# Of how many tickets a line is read.


def budget(event: Event, *requests: LedgerRequest, due: int = 0) -> int:
    """Return the budget for a batch. The bookings b, of 3 tickets, and w0, of 2 that wait, are there."""
    working_set = WorkingSet(str, milliseconds(DATE))
    reads = read_set(requests)
    held = Booking("b", "e", 3, "held", [], 0, 1, 0, 60, 60_000)
    working_set.bookings = {
        booking.id: booking for booking in (held, *waiting([2])) if booking.id in reads.bookings | reads.new_bookings
    }
    working_set.due = {"e": due} if due else {}
    reads.events.add("e")
    return offer_budgets(reads, {"e": event}, working_set)["e"]


def event(available: int, *, paused: bool = False) -> Event:
    sold = 5_000 - available
    return Event("e", "E", DATE, 5_000, available, 0, sold, 9, sold, paused=paused, waiting=1)


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([], 4),
        ([Release("b")], 7),
        ([Cancel("b")], 7),
        # Whoever leaves the line makes room for the next one.
        ([Release("w0")], 6),
        ([Release("b"), Cancel("b"), Release("w0")], 9),
        # These free nothing, and there are many of them.
        ([Confirm("b"), Extend("b", 60), Redeem("b"), Show("b"), Hold("e", 3, 60, "b")], 4),
        ([Amend("e", capacity=5_100), Amend("e", capacity=5_010)], 104),
        ([Amend("e", capacity=100)], 4),
        ([Amend("e", capacity=100_000)], OFFERED_PER_BATCH_MAX),
    ],
)
def test_a_line_is_read_for_what_may_become_available(requests: list[LedgerRequest], expected: int) -> None:
    assert budget(event(4), *requests) == expected


def test_a_line_is_read_for_holds_that_are_due() -> None:
    assert budget(event(0), due=5) == 5


def test_a_line_is_not_read_while_nothing_is_on_sale() -> None:
    assert budget(event(4, paused=True), Redeem("b"), Release("b")) == 0
    assert budget(event(4, paused=True), Amend("e", paused=False)) == 4


def test_the_lines_of_all_events_share_the_room_of_a_batch() -> None:
    reads, working_set = ReadSet(), WorkingSet(str, milliseconds(DATE))
    available = {"large": 5_000, "none": 0, "second": 901, "larger": 6_000} | {f"small-{each}": 2 for each in range(49)}
    events = {id: msgspec.structs.replace(event(tickets), id=id) for id, tickets in available.items()}
    reads.events |= events.keys()
    # Those that need least come first. One gets all that it needs, or nothing.
    assert offer_budgets(reads, events, working_set) == available | {"large": OFFERED_PER_BATCH_MAX, "larger": 0}
    events["second"].available += 1
    assert offer_budgets(reads, events, working_set) == available | {"second": 902, "large": 0, "larger": 0}
    # Of a line of which nothing was read, nobody knows who would be the first.
    line = read_for(0, waiting([7]))
    assert line.may_be_unread(7)
    assert not line.may_be_unread(6)
    # Each batch may name the others, and may not offer any of their tickets, since only large parties wait for them.
    reads.turns = {"large"}
    assert offer_budgets(reads, events, working_set) == dict.fromkeys(available, 0) | {"large": OFFERED_PER_BATCH_MAX}


def test_one_of_the_lines_in_which_many_may_be_over_the_limit_is_read_further() -> None:
    working_set = WorkingSet(str, milliseconds(DATE))
    unlimited = {id: msgspec.structs.replace(event(tickets), id=id) for id, tickets in {"a": 1, "b": 2, "c": 3}.items()}
    limited = {id: msgspec.structs.replace(each, per_buyer=4) for id, each in unlimited.items()}
    reads = ReadSet()
    reads.events, reads.turns = set(limited), {"b", "c"}
    assert offer_budgets(reads, unlimited, working_set) == {"a": 1, "b": 2, "c": 3}
    assert offer_budgets(reads, limited, working_set) == {"a": 1, "b": OFFERED_PER_BATCH_MAX - 4, "c": 3}


def calls_of_a_batch(events: int, requests: int) -> int:
    """Return how many functions are called to book tickets of events that others wait for, one after the other."""
    working_set = WorkingSet(str, milliseconds(DATE))
    for number in range(events):
        id = f"e{number}"
        working_set.events[id] = msgspec.structs.replace(event(3), id=id)
        working_set.waiting_lists[id] = WaitingList(
            [msgspec.structs.replace(booking, event=id) for booking in waiting([9])]
        )
    calls = 0

    def count(_frame: object, what: str, _arg: object) -> None:
        nonlocal calls
        calls += what == "call"

    # Hypothesis is called by the garbage collector.
    gc.disable()
    sys.setprofile(count)
    try:
        decide_all(working_set, [Book(f"e{number % events}", 5, f"b{number}") for number in range(requests)])
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def test_a_request_costs_as_much_however_many_other_events_have_a_line() -> None:
    one, many = (calls_of_a_batch(events, 200) - calls_of_a_batch(events, 100) for events in (1, 100))
    assert one == many
