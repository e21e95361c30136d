"""PostgreSQL finds rows by an index, whatever its statistics say when it makes the plan that it keeps."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from tests.conftest import SECONDS_MAX
from tests.ledger.sale import commit
from tests.ledgers import PostgresStorage, read, transact
from ticketd.ledger.base import Ledger, SharedLedger
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
    Wait,
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
    await use_line(ledger, event)
    await read(ledger, [Show(event), Show(f"{event}-booked"), Show(booked.tickets[0]), Bookings()])
    await read(ledger, [Bookings(event=event), Bookings(buyer="buyer1")])
    await transact(ledger, [])


async def use_line(ledger: Ledger, event: str) -> None:
    """Let some wait for what is left of an event, and offer it to them."""
    await commit(ledger, Amend(event, per_buyer=None, capacity=10))
    await commit(ledger, Book(event, 5, f"{event}-rest"))
    for number in range(3):
        await commit(ledger, Wait(event, 9 - 3 * number, 900, f"{event}-w{number}", f"buyer{number}"))
    await commit(ledger, Release(f"{event}-w1"))
    await read(ledger, [Show(f"{event}-w0"), Show(f"{event}-w2")])
    await commit(ledger, Amend(event, per_buyer=4))
    await commit(ledger, Cancel(f"{event}-rest"))


async def scans(connection: asyncpg.Connection) -> dict[str, int]:
    """Return how often each table was read as a whole."""
    return {row["relname"]: row["seq_scan"] for row in await connection.fetch(SCANS)}


async def until_all_is_counted(connection: asyncpg.Connection) -> None:
    """Return when all other connections have ended: only then do they add to the counts."""
    async with asyncio.timeout(SECONDS_MAX):
        while await connection.fetchval(OTHERS):
            await connection.execute("SELECT pg_stat_clear_snapshot()")


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
        await ledger.close()
    await until_all_is_counted(other)
    # Each of the three starts has looked at all events and removals once.
    expected = before | {table: before[table] + 3 for table in ("events", "removals")}
    assert await scans(other) == expected
    await other.close()


LINE_LENGTH = 20_000
ROWS_READ_MAX = 100
# An event that is sold out, and those who wait for 1, 2 or 3 of its tickets, each a different buyer.
LONG_LINE = f"""
INSERT INTO ticketd.events
    (id, name, date, capacity, available, held, sold, version, sold_elsewhere, paused, amendments, per_buyer, waiting)
VALUES ('long', 'Long', now(), 9, 0, 0, 9, {LINE_LENGTH + 1}, 8, false, 0, 9, {LINE_LENGTH});
INSERT INTO ticketd.bookings (id, event, quantity, state, tickets, available, version, booked_at, seconds, buyer)
SELECT 'long' || i, 'long', 1 + i % 3, 'waiting', '[]', 0, 1 + i, 1, 900, 'b' || i
FROM generate_series(1, {LINE_LENGTH}) AS i;
INSERT INTO ticketd.bookings (id, event, quantity, state, tickets, available, version, booked_at, buyer)
VALUES ('sold', 'long', 1, 'confirmed', '["0123456789ab"]', 0, 1, 1, 'b0');
"""
# How many rows of bookings and entries of their indexes were read.
READ = """
SELECT (SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'bookings')
    + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'bookings')
"""


@pytest.mark.parametrize("statistics", ["none", "of the line", "from before it"])
async def test_a_commit_that_frees_a_ticket_reads_no_long_line(statistics: str, database: str) -> None:
    storage = PostgresStorage(database)
    await (await storage.open()).close()
    other = await asyncpg.connect(database)
    await other.execute("ALTER TABLE ticketd.bookings SET (autovacuum_enabled = off)")
    if statistics == "from before it":
        await other.execute(GROW)
        await other.execute("ANALYZE")
    await other.execute(LONG_LINE)
    if statistics == "of the line":
        await other.execute("ANALYZE")
    before = await other.fetchval(READ)
    ledger = await storage.open()
    answers = await transact(ledger, [Cancel("sold")])
    assert [booking.id for booking in answers.offered] == ["long3"]
    assert (await transact(ledger, [Release("long3")])).offered[0].id == "long6"
    assert not (await transact(ledger, [])).changed
    assert isinstance(ledger, SharedLedger)
    await ledger.fetch_changes()
    await ledger.close()
    await until_all_is_counted(other)
    assert await other.fetchval(READ) - before < ROWS_READ_MAX
    await other.close()
