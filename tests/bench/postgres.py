"""``python -m tests.bench.postgres``: bookings per second of one hot event in PostgreSQL, from 50 connections.

One or two daemons, beside pgbench with a transaction for each booking: the same database, the same run,
rounds interleaved; figures are medians. Every booking is durable before its reply.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.load import load
from tests.daemon import running, write_events
from tests.postgres import Postgres
from ticketd.model import CAPACITY_MAX

ROUNDS = 5
CONNECTIONS = 50
REQUESTS = 40_000
PGBENCH_SECONDS = 4
# What a program without desks does for a booking: lock the event, see that the booking is new, sell, keep the ticket.
TRANSACTION = """
BEGIN;
SELECT available, sold, version FROM ticketd.events WHERE id = '2' FOR UPDATE;
SELECT 1 FROM ticketd.bookings WHERE id = 'new';
UPDATE ticketd.events SET available = available - 1, sold = sold + 1, version = version + 1 WHERE id = '2';
INSERT INTO ticketd.bookings VALUES (gen_random_uuid()::text, '2', 1, 'confirmed', gen_random_uuid()::text, 1, 1);
INSERT INTO ticketd.tickets VALUES (gen_random_uuid()::text, '2', 'new', 'valid');
COMMIT;
"""


def one_transaction_for_each(postgres: Postgres, database: str, script: Path) -> float:
    """Return bookings per second of pgbench."""
    how = ["-n", "-M", "prepared", "-c", str(CONNECTIONS), "-j", "2", "-T", str(PGBENCH_SECONDS), "-f", str(script)]
    command = [str(postgres.programs / "pgbench"), *how, database]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"tps = ([\d.]+)", output)
    assert found, output
    return float(found[1])


def main() -> None:
    """Measure and print a table, or JSON with ``--json``."""
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place, Postgres() as postgres:
        folder = Path(place)
        script = folder / "transaction.sql"
        script.write_text(TRANSACTION)
        write_events(folder, CAPACITY_MAX, CAPACITY_MAX)
        database = postgres.new_database()
        with running(folder, "--store", database) as one, running(folder, "--store", database) as two:
            ways: dict[str, Callable[[], float]] = {
                "a transaction for each booking": lambda: one_transaction_for_each(postgres, database, script),
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
    base = statistics.median(figures["a transaction for each booking"])
    for way, rates in figures.items():
        print(f"{way:>32} {statistics.median(rates):>10,.0f} {statistics.median(rates) / base:>8.1f} x")


def booked(ports: list[int]) -> float:
    """Return bookings per second through daemons."""
    report = load(ports, CONNECTIONS, 1, REQUESTS)
    assert not report.errors
    return report.requests_per_second


if __name__ == "__main__":
    main()
