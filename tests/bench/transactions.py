"""The PostgreSQL peer: one commit for each booking, as programs without queues do it; with asyncpg and with pgbench.

``TRANSACTION`` is what most programs do: lock the event, see that the booking is new, sell, keep the booking and its
ticket. ``STATEMENT`` is the fastest way to sell: one prepared statement. ``PAIR`` holds, and then confirms.
"""

import asyncio
import random
import re
import subprocess
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import asyncpg
import uvloop

from tests.bench.cpu import with_cpu
from tests.bench.load import SECONDS
from tests.bench.table import Figures
from tests.postgres import Postgres, query
from ticketd.ids import new_id
from ticketd.model import CAPACITY_MAX

# In its favour: more memory than it takes unasked.
SETTINGS = {"shared_buffers": "256MB"}

_TABLES = f"""
CREATE TABLE events (
    id text COLLATE "C" PRIMARY KEY, available integer NOT NULL CHECK (available >= 0),
    held integer NOT NULL DEFAULT 0, sold integer NOT NULL, version bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE bookings (
    id text COLLATE "C" PRIMARY KEY, event text COLLATE "C" NOT NULL, quantity integer NOT NULL, state text NOT NULL,
    available integer NOT NULL, version bigint NOT NULL
);
CREATE TABLE tickets (
    id text COLLATE "C" PRIMARY KEY, event text COLLATE "C" NOT NULL, booking text COLLATE "C" NOT NULL,
    state text NOT NULL
);
INSERT INTO events (id, available, sold, version)
SELECT 'e' || lpad(number::text, 6, '0'), {CAPACITY_MAX}, 0, 0 FROM generate_series(1, %d) AS number;
"""
# Each is a list of transactions, and each of these its statements. One statement needs no BEGIN and COMMIT.
Way = Sequence[Sequence[str]]
_LOCK = "SELECT available, sold, version FROM events WHERE id = {event} FOR UPDATE"
_IS_NEW = "SELECT 1 FROM bookings WHERE id = {id}"
_TICKET = "INSERT INTO tickets VALUES ({id}, {event}, {id}, 'valid')"
TRANSACTION: Way = [
    [
        _LOCK,
        _IS_NEW,
        "UPDATE events SET available = available - 1, sold = sold + 1, version = version + 1 WHERE id = {event}",
        "INSERT INTO bookings VALUES ({id}, {event}, 1, 'confirmed', 1, 1)",
        _TICKET,
    ]
]
STATEMENT: Way = [
    [
        """
WITH sold AS (
    UPDATE events SET available = available - 1, sold = sold + 1, version = version + 1
    WHERE id = {event} AND available >= 1 RETURNING available, version
) INSERT INTO bookings SELECT {id}, {event}, 1, 'confirmed', available, version FROM sold RETURNING available, version
"""
    ]
]
PAIR: Way = [
    [
        _LOCK,
        _IS_NEW,
        "UPDATE events SET available = available - 1, held = held + 1, version = version + 1 WHERE id = {event}",
        "INSERT INTO bookings VALUES ({id}, {event}, 1, 'held', 1, 1)",
    ],
    [
        _LOCK,
        "SELECT state, quantity FROM bookings WHERE id = {id}",
        "UPDATE events SET held = held - 1, sold = sold + 1, version = version + 1 WHERE id = {event}",
        "UPDATE bookings SET state = 'confirmed' WHERE id = {id}",
        _TICKET,
    ],
]


class Transactions:
    """A database with so many events."""

    def __init__(self, postgres: Postgres, folder: Path, events: int) -> None:
        self._url = postgres.new_database()
        self._programs = postgres.programs
        self._script = folder / f"{events}.sql"
        self._events = events
        file = query(self._url, "SELECT pg_read_file('postmaster.pid') AS file")[0]["file"]
        # Of the process that all its backends are children of.
        self.pid = int(file.split()[0])
        uvloop.run(self._make())

    def asyncpg(self, connections: int, way: Way = TRANSACTION) -> Figures:
        """Return how often a second so many connections of one Python program do it."""
        return with_cpu(lambda: uvloop.run(self._repeat(connections, way)), self.pid)

    def pgbench(self, connections: int, way: Way = TRANSACTION) -> Figures:
        """Return the same of PostgreSQL's own load generator."""
        return with_cpu(lambda: self._pgbench(connections, way), self.pid)

    def _pgbench(self, connections: int, way: Way) -> Figures:
        variables = [
            r"\set id random(1, 1000000000000)",
            r"\set n random(1, 1000000000)",
            rf"\set event random(1, {self._events})",
        ]
        names = {"id": "'p-' || :id || '-' || :client_id || '-' || :n", "event": "'e' || lpad(:event::text, 6, '0')"}
        lines = []
        for transaction in way:
            statements = [f"{' '.join(statement.format(**names).split())};" for statement in transaction]
            lines += statements if len(statements) == 1 else ["BEGIN;", *statements, "COMMIT;"]
        self._script.write_text("\n".join([*variables, *lines]))
        how = ["-n", "-M", "prepared", "-c", str(connections), "-T", f"{SECONDS:.0f}", "-f", str(self._script)]
        command = [str(self._programs / "pgbench"), *how, self._url]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rate, failed = re.search(r"tps = ([\d.]+)", output), re.search(r"failed transactions: (\d+)", output)
        done = re.search(r"actually processed: (\d+)", output)
        assert rate and done and failed and failed[1] == "0", output
        return Figures(float(rate[1]), done=int(done[1]))

    async def _make(self) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.execute(_TABLES % self._events)
        await connection.close()

    async def _repeat(self, number: int, way: Way) -> Figures:
        connections = await asyncio.gather(*(asyncpg.connect(self._url) for _ in range(number)))
        numbered = [[_numbered(statement) for statement in transaction] for transaction in way]
        began = time.perf_counter()
        latencies_ms: list[float] = []

        async def repeat(connection: asyncpg.Connection) -> None:
            while (sent := time.perf_counter()) - began < SECONDS:
                values = {"id": new_id(), "event": f"e{random.randint(1, self._events):06d}"}
                for transaction in numbered:
                    async with nullcontext() if len(transaction) == 1 else connection.transaction():
                        for statement, names in transaction:
                            await connection.fetch(statement, *(values[name] for name in names))
                latencies_ms.append((time.perf_counter() - sent) * 1e3)

        await asyncio.gather(*map(repeat, connections))
        rate = len(latencies_ms) / (time.perf_counter() - began)
        for connection in connections:
            await connection.close()
        latencies_ms.sort()
        return Figures(
            value=rate,
            p50_ms=latencies_ms[len(latencies_ms) // 2],
            p99_ms=latencies_ms[len(latencies_ms) * 99 // 100],
            done=len(latencies_ms),
        )


def _numbered(statement: str) -> tuple[str, list[str]]:
    """Return a statement as asyncpg takes it, and the names of its values."""
    names = [name for name in ("id", "event") if f"{{{name}}}" in statement]
    return statement.format(**{name: f"${position}::text" for position, name in enumerate(names, 1)}), names
