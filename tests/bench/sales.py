"""Durable bookings, beside what else could sell them: Redis and PostgreSQL; the ceiling, and the floor."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.bench.load import ECHOED, Load
from tests.bench.machine import HAS_POSTGRES
from tests.bench.servers import REDIS, REDIS_BOOKED, Server, echo, redis, ticketd, write_events
from tests.bench.table import Block, Figures, Goal, Samples, Way, at_least, at_most
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
AGAINST = "ticketd of --against"
# By how many io-threads it has.
REDIS_PEERS = {1: "Redis, 1 io-thread, Lua, fsync always", 4: "Redis, 4 io-threads, Lua, fsync always"}
ECHO = "echo, no work at all"
SYNC = "a bare fdatasync of 4 KiB for each"
ASYNCPG = "PostgreSQL, a transaction each, asyncpg"
PGBENCH = "PostgreSQL, a transaction each, pgbench"

ECHO_CPU = "processor time of the echo for a request"

REDIS_GOALS = {"1x1": 0.75, "50x1": 1.1, "500x1": 1.2, "50x16": 1.6}
# How much of these goals it shall be when the bookings are spread over many events.
SPREAD_GOAL = 0.85
CPU_GOALS = {"50x1, one event": at_most(3)}

SYNC_SECONDS = 1.0

Peers = dict[str, Callable[[int], Figures]]


def run(rounds: int, place: Path, against: Path | None = None) -> Iterator[Block]:
    """Measure all shapes, of one event and spread over many; beside the daemon of another checkout, if there is one."""
    samples = Samples()
    with _postgres(place) as postgres:
        for _ in range(rounds):
            _round(samples, place, against, postgres)
    for events in SPREADS:
        for shape, (_, _, means) in SHAPES.items():
            name = _name(shape, events)
            if REDIS:
                samples.keep_best(name, REDIS_PEERS.values())
            cpu = samples.cpu(name, TICKETD, ECHO, ECHO_CPU, CPU_GOALS.get(name))
            yield samples.compared(name, f"durable bookings; {means}", "/s", _goals(shape, events), [cpu])


def _goals(shape: str, events: int) -> Mapping[str, Goal]:
    goal = at_least(round(REDIS_GOALS[shape] * (1 if events == 1 else SPREAD_GOAL), 2))
    return dict.fromkeys(REDIS_PEERS.values(), goal)


def _round(samples: Samples, place: Path, against: Path | None, postgres: dict[int, Peers]) -> None:
    # Each round begins with empty ledgers: 5 rounds of bookings are more than Redis should keep in memory.
    with ExitStack() as stack:

        def folder() -> Path:
            new = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
            write_events(new, *[CAPACITY_MAX] * EVENTS)
            return new

        daemons = {TICKETD: stack.enter_context(ticketd(folder()))}
        if against:
            daemons[AGAINST] = stack.enter_context(ticketd(folder(), tree=against))
        bare = stack.enter_context(echo(folder()))
        scripts: dict[str, tuple[Server, str]] = {}
        for io_threads, peer in REDIS_PEERS.items() if REDIS else ():
            scripts[peer] = redis(folder(), EVENTS, io_threads)
            stack.enter_context(scripts[peer][0])
        sync = _synced(place)
        for events in SPREADS:
            for shape, (connections, depth, _) in SHAPES.items():
                name = _name(shape, events)
                load = Load(connections, depth, events=events)
                ways: dict[str, Way] = {what: partial(daemon.measure, load) for what, daemon in daemons.items()}
                for peer, (server, booking) in scripts.items():
                    script = replace(load, templates=[booking], expected=REDIS_BOOKED)
                    ways[peer] = partial(server.measure, script)
                ways[ECHO] = partial(bare.measure, replace(load, expected=ECHOED))
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
