"""The checker passes a true history, and finds what is wrong with one that was made false."""

import pickle
import random
from math import inf

import pytest

from tests.faults import crowd, mutants_changes, mutants_door, mutants_replies
from tests.faults.checker import check
from tests.faults.history import Operation, Row
from tests.faults.recorded import Mutant, Recorded

KILLS = 1


@pytest.fixture(scope="module")
def recording(seed: int, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    recorded = crowd.record(random.Random(seed), KILLS, tmp_path_factory.mktemp("recording"))
    return pickle.dumps((recorded.history, recorded.events))


@pytest.fixture
def recorded(recording: bytes, chance: random.Random) -> Recorded:
    history, events = pickle.loads(recording)
    return Recorded(history, events, chance)


MUTANTS = [*mutants_changes.MUTANTS, *mutants_replies.MUTANTS, *mutants_door.MUTANTS]


@pytest.mark.parametrize(
    ("mutant", "wrong"),
    MUTANTS,
    ids=lambda of: of.__name__ if callable(of) else "",
)
def test_the_checker_rejects_a_false_history(mutant: Mutant, wrong: str, recorded: Recorded) -> None:
    mutant(recorded)
    with pytest.raises(AssertionError, match=wrong):
        check(recorded.history, recorded.events)


def test_the_checker_accepts_a_true_history(recorded: Recorded) -> None:
    check(recorded.history, recorded.events)


def test_the_checker_accepts_a_retry_after_a_lost_reply(recorded: Recorded) -> None:
    for _ in range(10):
        lost = recorded.booked()
        recorded.later(lost.request, {**lost.reply, "replayed": True})
        lost.reply, lost.answered = None, inf
    check(recorded.history, recorded.events)


def extended(times: int, lost: int) -> tuple[list[Operation], Row]:
    """Return the history of a hold that was extended so often, by requests of which so many were not answered."""
    event = {"id": "1", "name": "Event 1", "date": "2027-03-11T20:00:00Z", "capacity": 9, "held": 0, "sold": 0}
    hold: Row = {"id": "b", "event": "1", "quantity": 1, "state": "held", "tickets": []}
    hold["booked_at"] = "2027-03-11T19:00:00Z"
    first = {**hold, "available": 8, "version": 1, "expires": "2027-03-11T19:01:00Z"}
    changes = [
        {
            "what": "extend",
            "at": f"2027-03-11T19:00:{second:02}Z",
            "available": 8,
            "version": 1 + second,
            "expires": f"2027-03-11T19:01:{second:02}Z",
        }
        for second in range(1, times + 1)
    ]
    last = {**hold, **{name: changes[-1][name] for name in ("available", "version", "expires")}, "changes": changes}
    hold_request = {"cmd": "hold", "event": "1", "quantity": 1, "seconds": 60, "booking": "b"}
    extend = {"cmd": "extend", "booking": "b", "seconds": 60}
    return [
        Operation("anybody", 0, 0, hold_request, 0, 1, {"reply": "booking", **first}),
        *(Operation("anybody", 0, number, extend, 1 + number) for number in range(1, lost + 1)),
        Operation("anybody", 0, 9, {"cmd": "show", "id": "b"}, 50, 51, {"reply": "booking", **last}),
    ], {**event, "available": 9, "version": 0}


def test_each_of_two_extensions_without_a_reply_may_have_been_done() -> None:
    history, event = extended(2, lost=2)
    check(history, [event])


def test_an_extension_without_a_reply_was_not_done_twice() -> None:
    history, event = extended(2, lost=1)
    with pytest.raises(AssertionError, match="nobody can have done it"):
        check(history, [event])


def sale(size: int, capacity: int) -> tuple[list[Operation], Row]:
    """Return the history of 100 connections that book, look and ask again all at the same time, and the event."""
    event = {"id": "1", "name": "Event 1", "date": "2027-03-11T20:00:00Z", "capacity": capacity, "held": 0}
    history: list[Operation] = []
    for number in range(size):
        turn, step = divmod(number, 4)
        version = min(turn + 1, capacity)
        left = {"available": capacity - version, "version": version}
        facts = {**event, **left, "sold": version}
        booking = {
            "id": f"b{turn}",
            "event": "1",
            "quantity": 1,
            "state": "confirmed",
            "tickets": [f"b{turn}.{turn:012x}"],
            **left,
            "booked_at": "2027-03-11T19:00:00Z",
        }
        sold_out = {"reply": "error", "code": "sold_out", **left}
        book = {"cmd": "book", "event": "1", "quantity": 1, "booking": f"b{turn}"}
        request, reply = (
            (book, {"reply": "booking", **booking} if turn < capacity else sold_out),
            ({"cmd": "show", "id": "1"}, {"reply": "event", **facts}),
            (book, {"reply": "booking", **booking, "replayed": True} if turn < capacity else sold_out),
            ({"cmd": "list"}, {"reply": "events", "events": [facts]}),
        )[step]
        history.append(Operation("anybody", 0, number % 100, request, number, number + 99, reply))
    return history, {**event, "available": capacity, "sold": 0, "version": 0}


def test_the_checker_handles_100000_operations() -> None:
    history, event = sale(100_000, 20_000)
    assert sum(operation.changed for operation in history) == 20_000
    check(history, [event])


def test_the_checker_finds_an_oversold_event() -> None:
    history, event = sale(100, 25)
    event["available"], event["capacity"] = 24, 24
    for operation in history:
        reply = operation.reply or {}
        for shown in reply.get("events", [reply]):
            shown["available"] -= 1
    with pytest.raises(AssertionError, match="cannot make -1 available"):
        check(history, [event])
