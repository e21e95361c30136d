"""The opening of a sale: a crowd hammers ``book`` before it, with and without ids, as JSON and as words.

Nothing is sold before the sale opens by the ledger's clock, and nobody who asks after it is told that it has not
opened. The limit of each buyer holds in the storm. There is a connection for each client, or as many as the limit of
open files allows: then clients share them.
"""

import asyncio
import random
import resource
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import uvloop

from tests.daemon import running, write_events
from tests.faults.checker import check
from tests.faults.client import Client
from tests.faults.crowd import Crowd
from tests.faults.fleet import Fleet
from tests.faults.history import NOT_DONE, Operation, Row, bookings_in, milliseconds
from tests.faults.talk import Connection, connect
from tests.postgres import Postgres
from ticketd.serving.server import DESCRIPTORS_RESERVED

CLIENTS_PER_SIZE = 1_000
# A transaction of PostgreSQL with a sync for a few clients takes as long as a commit of a file for many.
CLIENTS_PER_SIZE_SHARED = 100
DAEMONS = 2
# So many clients buy for the same buyer.
CLIENTS_PER_BUYER = 2
PER_BUYER = 3
# From the moment when all have been refused until the sale opens.
OPENS_AFTER = timedelta(milliseconds=500)
SECONDS_MAX = 300.0
# What this process has open beside its connections.
DESCRIPTORS_KEPT = 100
CONNECTING_AT_ONCE = 200


class Buyer:
    """One client, who asks again until there is something to buy, and then until there is nothing more for the buyer.

    It keeps the id of what was refused, so that this may have been a retry, or has none and types words, or both.
    """

    def __init__(self, number: int, chance: random.Random) -> None:
        self._number = number
        self._has_ids = chance.random() < 0.5
        self._types_words = chance.random() < 0.5
        self._quantity = chance.choice([1, 2])
        self._bought = 0
        self.refused = asyncio.Event()
        self.done = False

    @property
    def request(self) -> Row:
        """What it asks for now."""
        buyer = f"buyer-{self._number // CLIENTS_PER_BUYER}"
        request: Row = {"cmd": "book", "event": "1", "quantity": self._quantity, "buyer": buyer}
        return {**request, "booking": f"b{self._number}-{self._bought}"} if self._has_ids else request

    def line(self, request: Row) -> bytes:
        """Return what it sends for this: JSON, or words."""
        if not self._types_words:
            return msgspec.json.encode(request)
        booking = f" --booking {request['booking']}" if self._has_ids else ""
        return f"book {request['event']} {request['quantity']} --buyer {request['buyer']}{booking}".encode()

    def hear(self, operation: Operation) -> None:
        """Hear what came of it."""
        if operation.code is None:
            self._bought += 1
        elif operation.code == "not_on_sale":
            self.refused.set()
        elif operation.code not in NOT_DONE:
            assert operation.code in ("sold_out", "buyer_limit"), operation
            self.done = True


async def hammer(connection: Connection, buyers: Sequence[Buyer]) -> None:
    """Let these ask over a connection until nothing is left for any of them."""
    with closing(connection):
        while asking := [buyer for buyer in buyers if not buyer.done]:
            requests = [buyer.request for buyer in asking]
            lines = [buyer.line(request) for buyer, request in zip(asking, requests, strict=True)]
            for buyer, operation in zip(asking, await connection.ask(requests, lines), strict=True):
                assert operation.reply, "no connection breaks"
                buyer.hear(operation)


async def storm(crowd: Crowd, clients: int, places: int) -> str:
    """Let clients hammer; let the sale open once all of them have been refused; return when that was."""
    buyers = [Buyer(number, crowd.chance) for number in range(clients)]
    async with asyncio.timeout(SECONDS_MAX):
        clerk = await connect(crowd, "clerk", crowd.ports[0])
        await _amend(clerk, per_buyer=PER_BUYER, opens=_in(timedelta(hours=1)))
        await _see_it_everywhere(crowd)
        connections = await _connect_all(crowd, min(clients, places))
        async with asyncio.TaskGroup() as storm:
            for number, connection in enumerate(connections):
                storm.create_task(hammer(connection, buyers[number :: len(connections)]))
            for buyer in buyers:
                await buyer.refused.wait()
            opens = _in(OPENS_AFTER)
            await _amend(clerk, opens=opens)
        clerk.close()
        await Client(crowd, "auditor").read_all()
    return opens


async def _connect_all(crowd: Crowd, count: int) -> list[Connection]:
    connections: list[Connection] = []
    while len(connections) < count:
        numbers = range(len(connections), min(count, len(connections) + CONNECTING_AT_ONCE))
        connecting = (connect(crowd, f"c{number}", crowd.ports[number % len(crowd.ports)]) for number in numbers)
        connections += await asyncio.gather(*connecting)
    return connections


async def _amend(clerk: Connection, **terms: object) -> None:
    [operation] = await clerk.ask([{"cmd": "amend", "event": "1", **terms}])
    assert operation.changed, operation


async def _see_it_everywhere(crowd: Crowd) -> None:
    """Wait until all daemons know the terms."""
    for port in crowd.ports:
        with closing(await connect(crowd, "clerk", port)) as connection:
            opens = False
            while not opens:
                [operation] = await connection.ask([{"cmd": "show", "id": "1"}])
                opens = "opens" in (operation.reply or {})


def _in(time: timedelta) -> str:
    return (datetime.now(UTC) + time).isoformat(timespec="milliseconds")


def prove(crowd: Crowd, opens: str, daemons: dict[int, float] | None) -> Counter[str]:
    """Prove that nothing was sold before the sale opened, nor too much after it; return figures."""
    check(crowd.history, crowd.events, daemons)
    opened = milliseconds(opens)
    booked = [milliseconds(facts["booked_at"]) for operation in crowd.history for facts in bookings_in(operation)]
    assert min(booked) >= opened, f"something was sold {opened - min(booked)} ms before the sale opened"
    refused = [operation for operation in crowd.history if operation.code == "not_on_sale"]
    assert all((operation.reply or {}).get("opens") for operation in refused), "every refusal says when the sale opens"
    sales = [operation for operation in crowd.history if operation.cmd == "book" and operation.changed]
    sold = sum(operation.request["quantity"] for operation in sales)
    # No whole booking of those who asked last fits.
    assert crowd.events[0]["capacity"] - 1 <= sold <= crowd.events[0]["capacity"]
    return Counter(
        {
            "refused before it opened": len(refused),
            "refused by the limit": sum(operation.code == "buyer_limit" for operation in crowd.history),
            "tickets sold": sold,
            "ms from the opening to the first sale": min(booked) - opened,
        }
    )


def open_a_sale(chance: random.Random, clients: int, folder: Path) -> Counter[str]:
    """Let so many clients wait for the opening of a sale in a file."""
    write_events(folder, clients)
    places = _places()
    flags = ("--connections-max", str(places), "--log-level", "warning")
    with running(folder, *flags) as daemon, daemon.connect() as connection:
        crowd = _crowd(chance, connection.ask("list")["events"], [daemon.port])
        opens = uvloop.run(storm(crowd, clients, places))
    return prove(crowd, opens, None) + Counter({"clients": clients, "connections": min(clients, places)})


def open_a_shared_sale(chance: random.Random, clients: int, folder: Path, url: str) -> Counter[str]:
    """Let so many clients wait for the opening of a sale of daemons that share a PostgreSQL."""
    write_events(folder, clients)
    with Fleet(folder, url, DAEMONS) as fleet:
        crowd = _crowd(chance, fleet.events(), fleet.ports)
        opens = uvloop.run(storm(crowd, clients, 512 * DAEMONS))
        fleet.see_no_bug()
        figures = prove(crowd, opens, fleet.began)
        fleet.end()
    return Counter({f"shared: {name}": figure for name, figure in figures.items()})


def _crowd(chance: random.Random, events: Sequence[Row], ports: Sequence[int]) -> Crowd:
    crowd = Crowd(chance, events)
    crowd.ports = list(ports)
    return crowd


def _places() -> int:
    """Return how many connections this process and a daemon can have: the limit of open files is raised for both."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - DESCRIPTORS_RESERVED - DESCRIPTORS_KEPT


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Open a sale in a file, and one in PostgreSQL, to so many clients for each of ``size``."""
    figures = open_a_sale(chance, CLIENTS_PER_SIZE * size, folder)
    with Postgres() as postgres:
        url = postgres.new_database()
        return {**figures, **open_a_shared_sale(chance, CLIENTS_PER_SIZE_SHARED * size, folder, url)}
