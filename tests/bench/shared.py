"""Daemons that share a PostgreSQL, beside a transaction for each booking in the same PostgreSQL."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.load import SECONDS, Load
from tests.bench.machine import HAS_POSTGRES
from tests.bench.sales import ASYNCPG, PGBENCH
from tests.bench.servers import cpu_seconds, ticketd, write_events
from tests.bench.table import Block, Figures, Samples, at_least
from ticketd.model import CAPACITY_MAX

CONNECTIONS = 50
BUYERS = Load(CONNECTIONS, 1)
ONE, TWO = "one daemon", "two daemons"
COMPUTING = ["computing for a booking, ticketd", "computing for a booking, PostgreSQL"]
GOALS = {ONE: {ASYNCPG: at_least(20), PGBENCH: at_least(20)}, TWO: {ONE: at_least(1)}}
MEANS = {
    ONE: "50 buyers of one event, on one machine with the database",
    TWO: "the same with half of the buyers at each; they are for more machines, and must not be slower",
}


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure 50 connections that book one event, and how long was computed for a booking."""
    if not HAS_POSTGRES:
        return
    from tests.bench.transactions import SETTINGS, Transactions
    from tests.postgres import Postgres, query

    folders = [place / "one", place / "two"]
    for folder in folders:
        folder.mkdir()
        write_events(folder, CAPACITY_MAX)
    samples = Samples()
    with Postgres(None, **SETTINGS) as server:
        # In a database of its own, so that what one way leaves behind is not in the way of the other.
        plain, database = Transactions(server, place, 1), server.new_database()
        postmaster = int(query(database, "SELECT pg_read_file('postmaster.pid') AS file")[0]["file"].split()[0])
        with ticketd(folders[0], "--store", database) as one, ticketd(folders[1], "--store", database) as two:

            def computed() -> list[float]:
                return [one.cpu_seconds + two.cpu_seconds, cpu_seconds(postmaster)]

            def booked(block: str, *ports: int) -> Figures:
                before = computed()
                figures = BUYERS.measure(*ports)
                for what, now, then in zip(COMPUTING, computed(), before, strict=True):
                    samples.add(block, what, (now - then) * 1e6 / (figures.value * SECONDS))
                return figures

            for _ in range(rounds):
                samples.measure(
                    ONE,
                    {
                        ONE: partial(booked, ONE, one.port),
                        ASYNCPG: partial(plain.asyncpg, CONNECTIONS),
                        PGBENCH: partial(plain.pgbench, CONNECTIONS),
                    },
                )
                samples.measure(
                    TWO, {TWO: partial(booked, TWO, one.port, two.port), ONE: partial(BUYERS.measure, one.port)}
                )
    for name, means in MEANS.items():
        more = [samples.line(name, what, "us") for what in COMPUTING]
        yield samples.compared(name, means, "/s", GOALS[name], more)
