"""Daemons that share a PostgreSQL, beside a transaction for each booking in the same PostgreSQL."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.cpu import charged, cpu_seconds, with_cpu
from tests.bench.load import Load
from tests.bench.machine import HAS_POSTGRES
from tests.bench.sales import ASYNCPG, PGBENCH
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Samples, at_least
from ticketd.model import CAPACITY_MAX

CONNECTIONS = 50
BUYERS = Load(CONNECTIONS, 1)
ONE, TWO = "one daemon", "two daemons"
COMPUTING = "processor time of PostgreSQL for a booking"
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
    from tests.postgres import Postgres

    folders = [place / "one", place / "two"]
    for folder in folders:
        folder.mkdir()
        write_events(folder, CAPACITY_MAX)
    samples = Samples()
    with Postgres(None, **SETTINGS) as server:
        # In a database of its own, so that what one way leaves behind is not in the way of the other.
        plain, database = Transactions(server, place, 1), server.new_database()
        with ticketd(folders[0], "--ledger", database) as one, ticketd(folders[1], "--ledger", database) as two:

            def booked(block: str, *daemons: Server) -> Figures:
                ports, pids = [daemon.port for daemon in daemons], [daemon.pid for daemon in daemons]
                before = cpu_seconds(plain.pid)
                figures = with_cpu(partial(BUYERS.measure, *ports), *pids)
                database = charged(Figures(0, done=figures.done), before, cpu_seconds(plain.pid))
                database.value = database.cpu_us
                samples.add(block, COMPUTING, database)
                return figures

            for _ in range(rounds):
                samples.measure(
                    ONE,
                    {
                        ONE: partial(booked, ONE, one),
                        ASYNCPG: partial(plain.asyncpg, CONNECTIONS),
                        PGBENCH: partial(plain.pgbench, CONNECTIONS),
                    },
                )
                samples.measure(TWO, {TWO: partial(booked, TWO, one, two), ONE: partial(one.measure, BUYERS)})
    for name, means in MEANS.items():
        yield samples.compared(name, means, "/s", GOALS[name], [samples.line(name, COMPUTING, "us")])
