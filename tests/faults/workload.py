"""What somebody in a crowd asks for: all that clients can do, with what the crowd knows of each other."""

import random
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol

from tests.faults.history import Operation, Row

# Of most holds.
HOLD_SECONDS = 1
# The others of a family buy for the same buyer.
FAMILIES = 8
# How soon a sale begins or ends that somebody decides now.
SALE_MS_MAX = 400
DATE = "2027-03-11T20:00:00Z"
CAPACITIES = (1_500, 100, 100_000)

_TWICE = ("confirm", "cancel", "redeem", "extend")
_COMMANDS = (*_TWICE, *_TWICE, "release", "annul", "reissue", "again", "show", "read", "delete")


class Memory(Protocol):
    """What was done last: enough to be found again by others, and for holds to run out before they are found."""

    chance: random.Random
    events: Sequence[Row]
    bookings: deque[str]
    # Few, so that they are found when they have just run out.
    holds: deque[str]
    # Each booking, its event and its tickets.
    tickets: deque[tuple[str, str, list[str]]]
    done: deque[Row]
    # Events that come and go.
    late_events: list[str]


class Workload:
    """What one client of the crowd asks for.

    ``organizes`` is the event that nobody else amends: of an amendment there is no memory but the event. If it
    ``founds`` events, nobody else creates or deletes them.
    """

    def __init__(self, memory: Memory, name: str) -> None:
        self._memory = memory
        self._chance = memory.chance
        self._name = name
        self._numbers = count()
        self._late_number = 0
        self._late_exists = False
        self._closed = False
        self.organizes: str | None = None
        self.founds = False

    def draw(self) -> list[Row]:
        """Return what to ask next: one request or several at once."""
        # The few who can do it are likelier to do what is rare, so that all has happened soon: see ``crowd.HAPPENS``.
        choose = self._chance.choice
        if self.organizes and self._chance.random() < 0.5:
            return [self._amendment(self.organizes)]
        if self.founds and self._chance.random() < 0.4:
            return self._founding()
        if self._chance.random() < 0.5:
            return self._purchase()
        if self._memory.tickets and self._chance.random() < 0.2:
            return self._at_the_door(*choose(self._memory.tickets))
        return [self._any_request() for _ in range(choose([1, 1, 1, 2, 5]))]

    def learn(self, operations: Sequence[Operation]) -> None:
        """Learn from replies whether the event that this client creates is there, and whether it has to stay."""
        for operation in operations:
            if operation.cmd == "create" and operation.code in (None, "event_exists") and operation.reply:
                self._late_exists = True
            elif operation.cmd == "delete" and operation.request["event"] == self._late_event:
                if operation.code == "event_in_use":
                    self._late_number += 1
                if operation.code in (None, "event_not_found", "event_in_use") and operation.reply:
                    self._late_exists = False

    @property
    def _late_event(self) -> str:
        return f"{self._name}-late{self._late_number}"

    def _new_id(self) -> str:
        return f"{self._name}{self._chance.choice('-.')}{next(self._numbers)}"

    def _purchase(self) -> list[Row]:
        booking = self._new_id()
        event = self._chance.choices(self._memory.events, [5, 3, 3])[0]["id"]
        if self._memory.late_events and self._chance.random() < 0.1:
            event = self._chance.choice(self._memory.late_events)
        quantity = self._chance.choice([1, 2, 3, 4, 10])
        book = {"cmd": "book", "event": event, "quantity": quantity, "booking": booking, **self._buyer()}
        hold = {**book, "cmd": "hold", "seconds": self._chance.choice([HOLD_SECONDS, HOLD_SECONDS, 2, 300])}
        confirm, release, cancel = ({"cmd": cmd, "booking": booking} for cmd in ("confirm", "release", "cancel"))
        # Most offers last, so that lines come to rest when nobody asks for anything any more.
        wait = {**book, "cmd": "wait", "seconds": self._chance.choice([HOLD_SECONDS, 2, 300, 300, 300, 300])}
        extend = {"cmd": "extend", "booking": booking, "seconds": self._extension()}
        show, show_booking = {"cmd": "show", "id": event}, {"cmd": "show", "id": booking}
        return self._chance.choice(
            [
                [book],
                [book, show],
                [book, book],
                [book, {**book, "quantity": quantity + 1}],
                [book, {**book, "buyer": "somebody else"}],
                [hold],
                [hold],
                [hold, show],
                [hold, extend],
                [hold, extend, extend, confirm],
                [hold, confirm],
                [hold, confirm, {**confirm, "late": True}],
                [hold, confirm, extend],
                [hold, release],
                [hold, release, confirm],
                [hold, cancel, release],
                [wait],
                [wait, show_booking, show],
                [wait, wait, confirm],
                [wait, {**wait, "quantity": quantity + 1}],
                [wait, {**wait, "cmd": "hold"}, extend],
                [wait, release, show],
                [wait, release, wait, release],
                [{**book, "quantity": 1, "booking": f"{booking}.{turn}"} for turn in range(20)],
            ]
        )

    def _buyer(self) -> Row:
        chance = self._chance
        if chance.random() < 0.1:
            return {}
        family = chance.random() < 0.5
        return {"buyer": f"family {chance.randrange(FAMILIES)}" if family else f"{self._name}@example.com"}

    def _extension(self) -> int:
        return self._chance.choice([HOLD_SECONDS, HOLD_SECONDS, 2, 3, 300, 86_400])

    def _at_the_door(self, booking: str, event: str, tickets: list[str]) -> list[Row]:
        """Return what may happen at the door with a ticket of a booking."""
        chance = self._chance
        ticket = chance.choice(tickets)
        redeem = {"cmd": "redeem", "ticket": ticket, "scan": self._new_id()}
        again = {**redeem, "scan": self._new_id()}
        annul = {"cmd": "annul", "ticket": ticket, **chance.choice([{}, {"reason": "by mistake"}, {"event": event}])}
        reissue = {"cmd": "reissue", "ticket": ticket}
        whole = {"cmd": "redeem", "ticket": booking, "scan": self._new_id()}
        cancel = {"cmd": "cancel", "booking": booking, "tickets": [ticket]}
        show = {"cmd": "show", "id": ticket}
        return chance.choice(
            [
                [redeem, redeem],
                [redeem, again],
                [redeem, annul, again, redeem],
                [redeem, annul, redeem],
                [redeem, annul, annul, show],
                [redeem, annul, cancel],
                [redeem, annul, reissue, again],
                [redeem, annul, whole],
                [whole, whole],
                [whole, redeem],
                [whole, annul, whole],
                [whole, annul, {**whole, "scan": self._new_id()}],
                [reissue, redeem, show],
                [reissue, reissue],
                [{**redeem, "event": event}],
                [{**redeem, "event": "elsewhere"}, redeem],
                [annul],
            ]
        )

    def _any_request(self) -> Row:
        choose = self._chance.choice
        memory = self._memory
        cmd = choose(_COMMANDS)
        if cmd == "again" and memory.done:
            return choose(memory.done)
        if cmd in ("confirm", "extend", "release") and memory.bookings:
            held = memory.holds and self._chance.random() < 0.5
            request = {"cmd": cmd, "booking": choose(memory.holds if held else memory.bookings)}
            if cmd == "extend":
                return {**request, "seconds": self._extension()}
            return {**request, "late": True} if cmd == "confirm" and self._chance.random() < 0.5 else request
        if cmd == "delete" and memory.tickets:
            # Of this one, something was sold.
            return {"cmd": "delete", "event": choose(memory.tickets)[1]}
        if cmd in ("cancel", "redeem", "annul", "reissue", "show") and memory.tickets:
            return self._request_for(cmd, *choose(memory.tickets))
        return self._reading()

    def _request_for(self, cmd: str, booking: str, event: str, tickets: list[str]) -> Row:
        chance = self._chance
        if cmd == "cancel" and chance.random() < 0.5:
            return {"cmd": "cancel", "booking": booking}
        if cmd == "cancel":
            return {"cmd": cmd, "booking": booking, "tickets": chance.sample(tickets, chance.randint(1, len(tickets)))}
        id = chance.choice(tickets)
        if chance.random() < 0.1:
            # Of a booking that there is, a ticket that never was.
            id = f"{booking}.{chance.randbytes(6).hex()}"
        elif cmd in ("redeem", "show") and chance.random() < 0.3:
            id = booking
        if cmd == "show":
            return {"cmd": cmd, "id": id}
        if cmd == "redeem" and chance.random() < 0.5:
            return {"cmd": cmd, "ticket": id, "scan": self._new_id()}
        return {"cmd": cmd, "ticket": id}

    def _reading(self) -> Row:
        choose = self._chance.choice
        booking, event, _ = choose(self._memory.tickets or [("-", "1", [])])
        limit = self._chance.randint(1, 10)
        return choose(
            [
                {"cmd": "list"},
                {"cmd": "show", "id": choose(self._memory.events)["id"]},
                {"cmd": "show", "id": choose(self._memory.late_events or ["-"])},
                {"cmd": "show", "id": choose(self._memory.bookings or ["-"])},
                {"cmd": "bookings", "after": booking, "limit": limit},
                {"cmd": "bookings", "after": booking},
                {"cmd": "bookings", "event": event, "after": booking, "limit": limit},
                {"cmd": "bookings", **self._buyer(), "limit": limit},
            ]
        )

    def _amendment(self, event: str) -> Row:
        number = int(event) - 1
        capacity, chance = CAPACITIES[number], self._chance
        amend: Row = {"cmd": "amend", "event": event}
        if self._closed:
            self._closed = False
            return {**amend, "opens": None, "closes": None, "paused": False}
        # The last event is always on sale, and to everybody.
        what = chance.choice(["capacity", "sale", "per_buyer"] if number < 2 else ["capacity"])
        if what == "capacity":
            return {**amend, "capacity": chance.randint(capacity // 2, capacity * 3 // 2)}
        if what == "per_buyer":
            return {**amend, "per_buyer": chance.choice([None, 2, 5, 20, 100])}
        self._closed = True
        soon, later = _soon(chance.randrange(SALE_MS_MAX)), _soon(SALE_MS_MAX * 2)
        sale: Row = chance.choice([{"paused": True}, {"opens": soon, "closes": later}, {"opens": None, "closes": soon}])
        return {**amend, **sale}

    def _founding(self) -> list[Row]:
        """Return requests that create an event, or delete it again if nobody has bought a ticket of it."""
        event = self._late_event
        if event not in self._memory.late_events:
            self._memory.late_events.append(event)
        create = {"cmd": "create", "id": event, "name": "Late", "date": DATE, "capacity": 3}
        delete = {"cmd": "delete", "event": event}
        show = {"cmd": "show", "id": event}
        if self._late_exists:
            return self._chance.choice([[delete], [delete, show], [delete, delete], [delete, create], [create]])
        return self._chance.choice(
            [[create], [create, create], [create, show], [create, delete, show], [create, {**create, "capacity": 4}]]
        )


def _soon(after_ms: int) -> str:
    """Return the time in so many milliseconds."""
    return (datetime.now(UTC) + timedelta(milliseconds=after_ms)).isoformat(timespec="milliseconds")
