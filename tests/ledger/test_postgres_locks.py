"""What one batch does while other transactions hold locks in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import asyncpg

from tests.conftest import SECONDS_MAX
from tests.ledgers import PostgresStorage
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.postgres.ledger import PostgresLedger
from ticketd.ledger.postgres.load import load, lock
from ticketd.ledger.postgres.pool import Pool
from ticketd.rules.commands import read_set
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply, Reply
from ticketd.wire.requests import Amend, Book, Confirm, Create, Hold


@asynccontextmanager
async def selling(database: str, *events: str) -> AsyncIterator[tuple[Committer, PostgresLedger]]:
    """Sell from a ledger in this process."""
    ledger = await PostgresStorage(database).open()
    assert isinstance(ledger, PostgresLedger)
    committer = Committer(ledger, Catalogue([]), Limits())
    selling = asyncio.create_task(committer.run())
    for event in events:
        await committer.ask([Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 100, event)], "test")
    try:
        yield committer, ledger
    finally:
        committer.close()
        await selling
        await ledger.close()


async def until_somebody_waits_for_a_lock(other: asyncpg.Connection) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass


def numbers_of(replies: Sequence[Reply]) -> list[tuple[int, int]]:
    """Return available and version of each reply, which shows a booking."""
    return [(reply.available, reply.version) for reply in replies if isinstance(reply, BookingReply)]


async def test_requests_that_arrive_during_a_lock_share_a_commit(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "jazz") as (committer, _):
        commits = committer.activity.counts.commits
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events FOR UPDATE")
            first = asyncio.create_task(committer.ask([Hold("jazz", 1, 60)], "first"))
            await until_somebody_waits_for_a_lock(other)
            more = [
                asyncio.create_task(committer.ask([Book("jazz", 1), Hold("jazz", 1, 60)], "others")) for _ in range(20)
            ]
            await asyncio.sleep(0)
            assert committer.queued == len(more)
        replies = [reply for asked in (first, *more) for reply in await asked]
        assert [getattr(reply, "version", None) for reply in replies] == [*range(1, 42)]
        assert committer.activity.counts.commits == commits + 2
    await other.close()


async def test_locked_events_do_not_stop_other_events(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "1", "2", "3", "4", "5") as (committer, _):
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events WHERE id < '5' FOR UPDATE")
            locked = [asyncio.create_task(committer.ask([Book(event, 1)], event)) for event in "1234" for _ in range(5)]
            free = await asyncio.gather(*(committer.ask([Book("5", 1)], "5") for _ in range(5)))
            assert not any(asked.done() for asked in locked)
        replies = [reply for replies in (*free, *[await asked for asked in locked]) for reply in replies]
        assert all(isinstance(reply, BookingReply) for reply in replies)
    await other.close()


async def test_expired_holds_of_a_locked_event_do_not_stop_others(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "held", "free") as (committer, ledger):
        await committer.ask([Hold("held", 1, 60)], "test")
        await other.execute("UPDATE ticketd.bookings SET expires = 1")
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events WHERE id = 'held' FOR UPDATE")
            ledger.next_expiry = 1
            async with asyncio.timeout(SECONDS_MAX):
                [booked] = await committer.ask([Book("free", 1)], "test")
            assert isinstance(booked, BookingReply)
    await other.close()


async def test_what_changes_before_the_lock_is_decided_again(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "jazz") as (committer, _):
        await committer.ask([Hold("jazz", 1, 60, "mine")], "test")
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events FOR UPDATE")
            replies = asyncio.create_task(committer.ask([Confirm("mine"), Book("jazz", 1)], "test"))
            await until_somebody_waits_for_a_lock(other)
            await other.execute("UPDATE ticketd.events SET available = 100, held = 0, version = 2")
            await other.execute(
                """UPDATE ticketd.bookings SET state = 'released', changes = '[["release", 100, 2, 1]]'"""
            )
        async with asyncio.timeout(SECONDS_MAX):
            refused, booked = await replies
        assert isinstance(refused, ErrorReply)
        assert isinstance(booked, BookingReply)
        assert (refused.code, booked.available, booked.version) == ("already_released", 99, 3)
    await other.close()


async def test_sales_of_others_before_the_lock_shift_the_replies(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "jazz") as (committer, ledger):
        await committer.ask([Hold("jazz", 1, 60, "mine")], "test")
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events FOR UPDATE")
            replies = asyncio.create_task(
                committer.ask([Confirm("mine"), Hold("jazz", 2, 60, "more"), Confirm("more"), Confirm("mine")], "test")
            )
            await until_somebody_waits_for_a_lock(other)
            await other.execute("UPDATE ticketd.events SET available = 59, sold = 40, version = 41")
        async with asyncio.timeout(SECONDS_MAX):
            numbers = numbers_of(await replies)
        assert numbers == [(59, 42), (57, 43), (57, 44), (59, 42)]
        # The ledger has the same numbers, for those who ask again.
        again = await committer.ask([Confirm("mine"), Hold("jazz", 2, 60, "more"), Confirm("more")], "test")
        assert numbers_of(again) == numbers[:3]
        assert [event.version for event in (await ledger.fetch_changes()).events] == [44]
    await other.close()


async def test_a_change_gets_through_while_others_sell(database: str) -> None:
    other = await asyncpg.connect(database)

    async def sell() -> None:
        while True:
            await other.execute("UPDATE ticketd.events SET version = version + 1, changed = pg_current_xact_id()")

    async with selling(database, "jazz") as (committer, _):
        others = asyncio.create_task(sell())
        async with asyncio.timeout(SECONDS_MAX):
            for capacity in range(101, 111):
                # Both must be decided on the event just as it is.
                amended, refused = await committer.ask([Amend("jazz", capacity=capacity), Book("jazz", 999)], "test")
                assert isinstance(amended, EventReply)
                assert isinstance(refused, ErrorReply)
                assert (amended.available, refused.available) == (capacity, capacity)
        others.cancel()
        with suppress(asyncio.CancelledError):
            await others
    await other.close()


async def test_the_refresher_does_not_miss_a_late_commit(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "slow", "fast") as (committer, ledger):
        async with other.transaction():
            change = "UPDATE ticketd.events SET version = 7, changed = pg_current_xact_id() WHERE id = 'slow'"
            await other.execute(change)
            await committer.ask([Book("fast", 1)], "test")
            assert {event.id: event.version for event in (await ledger.fetch_changes()).events}["slow"] == 0
            assert {event.id: event.version for event in (await ledger.fetch_changes()).events}.get("slow", 0) == 0
        assert {event.id: event.version for event in (await ledger.fetch_changes()).events}["slow"] == 7
    await other.close()


async def test_after_a_restore_events_do_not_look_changed(database: str) -> None:
    async with selling(database, "jazz"):
        pass
    other = await asyncpg.connect(database)
    # In the cluster of the backup, transactions had higher numbers.
    await other.execute("UPDATE ticketd.events SET changed = '1000000000'")
    async with selling(database) as (_, ledger):
        assert [event.id for event in await ledger.events()] == ["jazz"]
        while (await ledger.fetch_changes()).events:
            pass
    await other.close()


async def test_what_waited_for_a_lock_is_decided_by_the_time_after_it(database: str) -> None:
    other = await asyncpg.connect(database)
    reads = read_set([Book("jazz", 1)])
    async with selling(database, "jazz"):
        pool = Pool(database)
        await pool.open()
        async with pool.lend() as connection:
            async with other.transaction():
                await other.execute("SELECT FROM ticketd.events FOR UPDATE")
                locked = asyncio.create_task(lock(connection, ["jazz"]))
                await until_somebody_waits_for_a_lock(other)
                time = await other.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000")
            await locked
            assert (await load(connection, reads)).now >= int(time)
            await connection.execute("ROLLBACK")
        pool.close()
    await other.close()
