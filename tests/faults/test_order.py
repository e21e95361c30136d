"""The checker knows what daemons that share a ledger may tell, and finds what they may not."""

from collections.abc import Callable

import pytest

from tests.faults.checker import check
from tests.faults.history import Operation, Row
from ticketd.model import ticket_id

LOST = "second was decided before the first"
EVENT = {"id": "1", "name": "Event 1", "date": "2027-03-11T20:00:00Z", "capacity": 10}
BEGINNING = {**EVENT, "available": 10, "held": 0, "sold": 0, "version": 0}
FIRST, SECOND, THIRD = 1, 2, 3


class Shared:
    """A history of daemons that share a ledger. What is said takes from one whole number to the next."""

    def __init__(self) -> None:
        self.history: list[Operation] = []

    def say(self, port: int, request: Row, reply: Row, connection: int | None = None) -> None:
        now = len(self.history)
        self.history.append(
            Operation("anybody", port, now if connection is None else connection, request, now, now + 0.9, reply)
        )

    def book(self, port: int, version: int) -> None:
        """Book one ticket, which makes this version."""
        booking = {"reply": "booking", "id": f"b{version}", "event": "1", "quantity": 1, "state": "confirmed"}
        request = {"cmd": "book", "event": "1", "quantity": 1, "booking": f"b{version}"}
        shown = {
            "tickets": [ticket_id(f"b{version}", f"{version:012x}")],
            "available": 10 - version,
            "version": version,
        }
        self.say(port, request, {**booking, **shown})

    def list(self, port: int, version: int, connection: int | None = None) -> None:
        """List the event as it is at this version."""
        events = [{**BEGINNING, "available": 10 - version, "sold": version, "version": version}]
        self.say(port, {"cmd": "list"}, {"reply": "events", "events": events}, connection)

    def is_sold_out(self, port: int, version: int, connection: int | None = None) -> None:
        """Ask for more than are left at this version."""
        reply = {"reply": "error", "code": "sold_out", "available": 10 - version, "version": version}
        self.say(port, {"cmd": "book", "event": "1", "quantity": 11, "booking": "many"}, reply, connection)

    def check(self, daemons: dict[int, float]) -> None:
        check(self.history, [BEGINNING], daemons)


def test_the_checker_lets_a_daemon_lag_behind_other_daemons() -> None:
    shared = Shared()
    shared.book(FIRST, 1)
    shared.list(SECOND, 0)
    shared.list(FIRST, 1)
    shared.book(FIRST, 2)
    shared.list(SECOND, 1)
    shared.is_sold_out(SECOND, 2)
    shared.list(SECOND, 1)
    shared.list(THIRD, 2)
    shared.check({FIRST: 0, SECOND: 0, THIRD: 7})
    with pytest.raises(AssertionError, match=LOST):
        shared.check({})


def a_daemon_forgets_its_own_commit(shared: Shared) -> None:
    shared.book(FIRST, 1)
    shared.list(FIRST, 0)


def a_daemon_forgets_what_it_showed(shared: Shared) -> None:
    shared.book(FIRST, 1)
    shared.list(SECOND, 1)
    shared.list(SECOND, 0)


def a_daemon_begins_with_what_was_before(shared: Shared) -> None:
    shared.book(FIRST, 1)
    shared.book(FIRST, 2)
    shared.list(THIRD, 1)


def a_daemon_tells_the_future_of_another(shared: Shared) -> None:
    shared.list(SECOND, 1)
    shared.book(FIRST, 1)


def a_daemon_decides_by_the_past(shared: Shared) -> None:
    shared.book(FIRST, 1)
    shared.is_sold_out(SECOND, 0)


def a_connection_is_shown_the_past(shared: Shared) -> None:
    shared.book(FIRST, 1)
    shared.is_sold_out(SECOND, 1, connection=7)
    shared.list(SECOND, 0, connection=7)


@pytest.mark.parametrize(
    ("false", "wrong"),
    [
        (a_daemon_forgets_its_own_commit, LOST),
        (a_daemon_forgets_what_it_showed, LOST),
        (a_daemon_begins_with_what_was_before, LOST),
        (a_daemon_tells_the_future_of_another, LOST),
        (a_daemon_decides_by_the_past, LOST),
        (a_connection_is_shown_the_past, "order sent"),
    ],
)
def test_the_checker_finds_daemons_that_contradict_each_other(false: Callable[[Shared], None], wrong: str) -> None:
    shared = Shared()
    false(shared)
    with pytest.raises(AssertionError, match=wrong):
        shared.check({FIRST: 0, SECOND: 0, THIRD: 2})
