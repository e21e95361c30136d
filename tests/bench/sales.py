"""Durable bookings, beside what else could sell them: Redis and PostgreSQL; the ceiling, and the floor."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.bench.load import ECHOED, Load
from tests.bench.machine import HAS_POSTGRES
from tests.bench.servers import REDIS, REDIS_BOOKED, echo, redis, ticketd, write_events
from tests.bench.table import Block, Figures, Samples, Way, at_least
from ticketd.model import CAPACITY_MAX

EVENTS = 1_000
SHAPES = {
    "1x1": (1, 1, "one buyer after the other"),
    "50x1": (50, 1, "50 buyers at once, each waits for the reply"),
    "500x1": (500, 1, "500 buyers at once, each waits for the reply"),
    "50x16": (50, 16, "50 resellers at once, each sends 16 bookings and waits for the replies"),
}
SPREADS = {1: "one event", EVENTS: f"{EVENTS:,} events"}
# In more shapes it would be as far behind, and take as long.
POSTGRES_BLOCKS = [("1x1", 1), ("50x1", 1), ("50x1", EVENTS)]

TICKETD = "ticketd"
REDIS_PEER = "Redis, Lua script, fsync always"
ECHO = "echo, no work at all"
SYNC = "a bare fdatasync of 4 KiB for each"
ASYNCPG = "PostgreSQL, a transaction each, asyncpg"
PGBENCH = "PostgreSQL, a transaction each, pgbench"

REDIS_GOALS = {"1x1": 0.9, "50x1": 1.3, "500x1": 1.3, "50x16": 2.5}
ECHO_GOALS = {"50x1": 0.35}

SYNC_SECONDS = 1.0

Peers = dict[str, Callable[[int], Figures]]


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure all shapes, of one event and spread over many."""
    samples = Samples()
    with _postgres(place) as postgres:
        for _ in range(rounds):
            _round(samples, place, postgres)
    for events in SPREADS:
        for shape, (_, _, means) in SHAPES.items():
            # They are about one hot event.
            goals = {peer: at_least(of[shape]) for peer, of in _GOALS.items() if events == 1 and shape in of}
            yield samples.compared(_name(shape, events), f"durable bookings; {means}", "/s", goals)


_GOALS = {REDIS_PEER: REDIS_GOALS, ECHO: ECHO_GOALS}


def _round(samples: Samples, place: Path, postgres: dict[int, Peers]) -> None:
    # Each round begins with empty ledgers: 5 rounds of bookings are more than Redis should keep in memory.
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place))) for _ in range(3)]
        write_events(folders[0], *[CAPACITY_MAX] * EVENTS)
        daemon = stack.enter_context(ticketd(folders[0]))
        bare = stack.enter_context(echo(folders[1]))
        if REDIS:
            server, booking = redis(folders[2], EVENTS)
            stack.enter_context(server)
        sync = _synced(place)
        for events in SPREADS:
            for shape, (connections, depth, _) in SHAPES.items():
                name = _name(shape, events)
                load = Load(connections, depth, events=events)
                ways: dict[str, Way] = {TICKETD: partial(load.measure, daemon.port)}
                if REDIS:
                    script = Load(connections, depth, [booking], REDIS_BOOKED, events)
                    ways[REDIS_PEER] = partial(script.measure, server.port)
                ways[ECHO] = partial(replace(load, expected=ECHOED).measure, bare.port)
                if (shape, events) in POSTGRES_BLOCKS:
                    for peer, book in postgres.get(events, {}).items():
                        ways[peer] = partial(book, connections)
                samples.measure(name, ways)
                samples.add(name, SYNC, sync)


@contextmanager
def _postgres(place: Path) -> Iterator[dict[int, Peers]]:
    """Run a PostgreSQL if there is one, with a database for each spread."""
    if not HAS_POSTGRES:
        yield {}
        return
    from tests.bench.transactions import SETTINGS, Transactions
    from tests.postgres import Postgres

    with Postgres(None, **SETTINGS) as server:
        databases = {events: Transactions(server, place, events) for events in SPREADS}
        yield {events: {ASYNCPG: each.asyncpg, PGBENCH: each.pgbench} for events, each in databases.items()}


def _synced(place: Path) -> float:
    """Return how often a second the disk can be appended to and synced."""
    block = os.urandom(4096)
    done = 0
    with tempfile.TemporaryFile(dir=place, buffering=0) as file:
        began = time.perf_counter()
        while (seconds := time.perf_counter() - began) < SYNC_SECONDS:
            file.write(block)
            os.fdatasync(file.fileno())
            done += 1
    return done / seconds


def _name(shape: str, events: int) -> str:
    return f"{shape}, {SPREADS[events]}"
