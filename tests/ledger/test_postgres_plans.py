"""PostgreSQL finds rows by an index, whatever its statistics say when it makes the plan that it keeps."""

import asyncio
from datetime import UTC, datetime

import asyncpg

from tests.conftest import SECONDS_MAX
from tests.ledger.sale import commit
from tests.ledgers import PostgresStorage, read, transact
from ticketd.ledger.base import Ledger
from ticketd.wire.replies import BookingReply
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Show,
)

GROW = """
INSERT INTO ticketd.events
    (id, name, date, capacity, available, held, sold, version, sold_elsewhere, paused, amendments)
SELECT 'e' || i, 'Jazz', now(), 1000, 1000, 0, 0, 0, 0, false, 0 FROM generate_series(1, 1000) AS i;
INSERT INTO ticketd.bookings (id, event, quantity, state, tickets, available, version, booked_at, buyer)
SELECT 'b' || i, 'e' || i % 1000, 1, 'confirmed', '[]', 1, 1, 1, 'buyer' || i % 99 FROM generate_series(1, 20000) AS i;
"""
SCANS = """
SELECT relname, seq_scan FROM pg_stat_user_tables
WHERE relname IN ('events', 'bookings', 'redemptions', 'removals') ORDER BY 1
"""

OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def use_all(ledger: Ledger, event: str) -> None:
    """Do everything that a batch can do with an event, which is new."""
    await commit(ledger, Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 100, event))
    await commit(ledger, Amend(event, capacity=50))
    booked = await commit(ledger, Book(event, 2, f"{event}-booked"))
    assert isinstance(booked, BookingReply)
    await commit(ledger, Redeem(booked.tickets[0], scan="door"))
    await commit(ledger, Annul(booked.tickets[0]))
    await commit(ledger, Reissue(booked.tickets[0]))
    await commit(ledger, Cancel(f"{event}-booked", booked.tickets[1:]))
    for id in ("kept", "released", "due"):
        await commit(ledger, Hold(event, 1, 60, f"{event}-{id}"))
    await commit(ledger, Extend(f"{event}-kept", 90))
    await commit(ledger, Confirm(f"{event}-kept"))
    await commit(ledger, Amend(event, per_buyer=3))
    await commit(ledger, Book(event, 1, f"{event}-bought", "buyer1"))
    await commit(ledger, Hold(event, 1, 60, f"{event}-limited", "buyer1"))
    await commit(ledger, Create("A mistake", datetime(2027, 3, 11, tzinfo=UTC), 100, f"{event}-mistake"))
    await commit(ledger, Delete(f"{event}-mistake"))
    await commit(ledger, Release(f"{event}-released"))
    await read(ledger, [Show(event), Show(f"{event}-booked"), Show(booked.tickets[0]), Bookings()])
    await read(ledger, [Bookings(event=event), Bookings(buyer="buyer1")])
    await transact(ledger, [])


async def scans(connection: asyncpg.Connection) -> dict[str, int]:
    """Return how often each table was read as a whole."""
    return {row["relname"]: row["seq_scan"] for row in await connection.fetch(SCANS)}


async def test_every_row_is_found_by_an_index(database: str) -> None:
    storage = PostgresStorage(database)
    await (await storage.open()).close()
    other = await asyncpg.connect(database)
    before = await scans(other)
    for number, grow in enumerate(("SELECT", GROW, "ANALYZE")):
        ledger = await storage.open()
        await other.execute(grow)
        await use_all(ledger, f"new{number}")
        await other.execute("UPDATE ticketd.bookings SET expires = 1 WHERE state = 'held'")
        await transact(ledger, [])
        await commit(ledger, Book(f"new{number}", 1, f"last{number}", "buyer2"))
        # Only when they end do connections add to the counts of scans.
        await ledger.close()
    async with asyncio.timeout(SECONDS_MAX):
        while await other.fetchval(OTHERS):
            await other.execute("SELECT pg_stat_clear_snapshot()")
    # Each of the three starts has looked at all events and removals once.
    expected = before | {table: before[table] + 3 for table in ("events", "removals")}
    assert await scans(other) == expected
    await other.close()
