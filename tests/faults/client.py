"""Somebody in a crowd: asks for this and that, and again for what was not answered, with the same ids."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Protocol

from tests.faults.history import CHANGES, DOOR, NOT_DONE, Operation, Row, bookings_in
from tests.faults.talk import Connection, Record, connect
from tests.faults.workload import Memory, Workload

SHOWN_AT_ONCE = 50


class SharedState(Record, Memory, Protocol):
    """What a client knows of the crowd. ``ports`` are those that answer."""

    chance: random.Random
    ports: list[int]
    over: bool
    bookings: deque[str]


class Client:
    """Somebody with one connection at a time."""

    def __init__(self, crowd: SharedState, name: str) -> None:
        self._crowd = crowd
        self._chance = crowd.chance
        self._name = name
        self._port = 0
        self.workload = Workload(crowd, name)
        self.unsettled: list[Row] = []

    async def live(self) -> None:
        """Ask, first of all what was not answered, until it is over; connect again when the connection breaks."""
        while self._crowd.ports and self._has_more():
            # What was not answered may still be queued there, and another daemon knows nothing of that.
            if not self.unsettled or self._port not in self._crowd.ports:
                self._port = self._chance.choice(self._crowd.ports)
            try:
                connection = await connect(self._crowd, self._name, self._port)
            except OSError:
                if self._port in self._crowd.ports:
                    self._crowd.ports.remove(self._port)
                continue
            with closing(connection):
                await self._converse(connection)

    async def read_all(self) -> None:
        """Read all events, and all bookings page by page; again if holds ran out meanwhile. Then, all at the door."""
        with closing(await connect(self._crowd, self._name, self._crowd.ports[0])) as connection:
            events = None
            while events != (events := (await self._read(connection, "list"))["events"]):
                page = await self._read(connection, "bookings")
                while page.get("more"):
                    page = await self._read(connection, "bookings", after=page["last"])
            tickets = sorted(_asked_at_the_door(self._crowd.history))
            for start in range(0, len(tickets), SHOWN_AT_ONCE):
                shows = [{"cmd": "show", "id": ticket} for ticket in tickets[start : start + SHOWN_AT_ONCE]]
                await connection.ask(shows)

    async def _read(self, connection: Connection, cmd: str, **more: str) -> Row:
        [operation] = await connection.ask([{"cmd": cmd, **more}])
        assert operation.reply
        return operation.reply

    def _has_more(self) -> bool:
        return bool(self.unsettled) or not self._crowd.over

    async def _converse(self, connection: Connection) -> None:
        while not connection.broken and self._has_more():
            if not self.unsettled and self._chance.random() < 0.02:
                booking = self._chance.choice([None, *list(self._crowd.bookings)[-1:]])
                await connection.watch(self._chance.randint(1, 5), booking)
                continue
            settling = bool(self.unsettled)
            requests = self.unsettled or self.workload.draw()
            # Settling is not disturbed, so that it comes to an end.
            breaks = not settling and self._chance.random() < 0.03
            operations = await (connection.ask_and_break(requests) if breaks else connection.ask(requests))
            # That it was not done this time does not tell what came of it the first time.
            self.unsettled = [
                operation.request
                for operation in operations
                if operation.cmd in CHANGES and (operation.unknown or (settling and operation.code in NOT_DONE))
            ]
            self.workload.learn(operations)
            # The crowd hears of a batch only when all of it is settled: somebody might cancel an unsettled confirm.
            if not self.unsettled:
                for operation in operations:
                    self._hear(operation.request, operation.reply or {})

    def _hear(self, request: Row, reply: Row) -> None:
        crowd = self._crowd
        if request["cmd"] == "show" and reply.get("state") == "held":
            # It may have been offered tickets.
            crowd.holds.append(reply["id"])
        elif reply.get("reply") == "booking" and request["cmd"] != "show":
            crowd.bookings.append(reply["id"])
            crowd.done.append(request)
            if reply["state"] == "held":
                crowd.holds.append(reply["id"])
            if reply["tickets"]:
                crowd.tickets.append((reply["id"], reply["event"], reply["tickets"]))
        elif reply.get("reply") == "ticket" and request["cmd"] in ("redeem", "reissue"):
            crowd.done.append(request)
            if request["cmd"] == "reissue":
                crowd.tickets.append((reply["booking"], reply["event"], [request["ticket"], reply["id"]]))


def _asked_at_the_door(history: Sequence[Operation]) -> set[str]:
    return set(_tickets_at_the_door(history))


def _tickets_at_the_door(history: Sequence[Operation]) -> Iterator[str]:
    for operation in history:
        if operation.cmd in DOOR:
            shown = [ticket for facts in bookings_in(operation) for ticket in facts["tickets"]]
            yield from shown or [operation.request["ticket"]]
