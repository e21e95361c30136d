"""``python -m tests.bench.postgres``: bookings per second of one hot event in PostgreSQL, from 50 connections.

One or two daemons, beside a transaction for each booking, as programs without desks do it: with asyncpg, and with
pgbench. The same PostgreSQL, the same run, rounds interleaved; figures are medians. Every booking is durable before its
reply.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import asyncpg
import uvloop

from tests.bench.load import load
from tests.daemon import running, write_events
from tests.postgres import Postgres
from ticketd.ids import new_id
from ticketd.model import CAPACITY_MAX

ROUNDS = 5
CONNECTIONS = 50
REQUESTS = 40_000
SECONDS = 4
SETTINGS = {"shared_buffers": "256MB"}
# What a program without desks does for a booking: lock the event, see that the booking is new, sell, keep the ticket.
LOCK = "SELECT available, sold, version FROM ticketd.events WHERE id = '2' FOR UPDATE"
IS_NEW = "SELECT 1 FROM ticketd.bookings WHERE id = {id}"
SELL = "UPDATE ticketd.events SET available = available - 1, sold = sold + 1, version = version + 1 WHERE id = '2'"
KEEP_BOOKING = "INSERT INTO ticketd.bookings VALUES ({id}, '2', 1, 'confirmed', {id}, 1, 1)"
KEEP_TICKET = "INSERT INTO ticketd.tickets VALUES ({id}, '2', {id}, 'valid')"
STATEMENTS = (LOCK, IS_NEW, SELL, KEEP_BOOKING, KEEP_TICKET)


def with_pgbench(postgres: Postgres, database: str, folder: Path) -> float:
    """Return bookings per second of pgbench."""
    script = folder / "transaction.sql"
    statements = [statement.format(id="'p-' || :id || '-' || :client_id || '-' || :n") for statement in STATEMENTS]
    lines = [r"\set id random(1, 1000000000000)", r"\set n random(1, 1000000000)", "BEGIN;"]
    script.write_text("\n".join([*lines, *(f"{statement};" for statement in statements), "COMMIT;"]))
    how = ["-n", "-M", "prepared", "-c", str(CONNECTIONS), "-T", str(SECONDS), "-f", str(script)]
    command = [str(postgres.programs / "pgbench"), *how, database]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"tps = ([\d.]+)", output)
    assert found, output
    return float(found[1])


async def with_asyncpg(database: str) -> float:
    """Return bookings per second of connections that each make a transaction for each booking."""
    statements = [statement.format(id="$1::text") for statement in STATEMENTS]
    connections = await asyncio.gather(*(asyncpg.connect(database) for _ in range(CONNECTIONS)))
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def book(connection: asyncpg.Connection) -> int:
        for done in count():
            if loop.time() - began > SECONDS:
                return done
            id = new_id()
            async with connection.transaction():
                for statement in statements:
                    await connection.fetch(statement, *([id] if "$1" in statement else []))
        raise AssertionError

    done = sum(await asyncio.gather(*map(book, connections)))
    seconds = loop.time() - began
    for connection in connections:
        await connection.close()
    return done / seconds


def main() -> None:
    """Measure and print a table, or JSON with ``--json``."""
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place, Postgres(None, **SETTINGS) as postgres:
        folder = Path(place)
        write_events(folder, CAPACITY_MAX, CAPACITY_MAX)
        # The same tables in a database of their own, so that what one way leaves behind is not in the way of another.
        plain, database = postgres.new_database(), postgres.new_database()
        with running(folder, "--store", plain):
            pass
        with running(folder, "--store", database) as one, running(folder, "--store", database) as two:
            ways: dict[str, Callable[[], float]] = {
                "a transaction for each, asyncpg": lambda: uvloop.run(with_asyncpg(plain)),
                "a transaction for each, pgbench": lambda: with_pgbench(postgres, plain, folder),
                "one daemon": lambda: booked([one.port]),
                "two daemons": lambda: booked([one.port, two.port]),
            }
            for _ in range(ROUNDS):
                for way, measure in ways.items():
                    figures.setdefault(way, []).append(measure())
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    print(f"bookings/s of one event, {CONNECTIONS} connections, one request at a time; medians of {ROUNDS} rounds")
    medians = {way: statistics.median(rates) for way, rates in figures.items()}
    to_asyncpg, to_pgbench, *_ = medians.values()
    print(f"{'':>32} {'bookings/s':>12} {'to asyncpg':>12} {'to pgbench':>12}")
    for way, rate in medians.items():
        print(f"{way:>32} {rate:>12,.0f} {rate / to_asyncpg:>12.1f} {rate / to_pgbench:>12.1f}")


def booked(ports: list[int]) -> float:
    """Return bookings per second through daemons."""
    report = load(ports, CONNECTIONS, 1, REQUESTS)
    assert not report.errors
    return report.requests_per_second


if __name__ == "__main__":
    main()
