"""Deleted events and what a daemon on PostgreSQL knows of them: they do not come back by chance."""

import asyncio

import asyncpg
import pytest

from tests.faketime import Clock
from tests.ledger.test_postgres_locks import until_somebody_waits_for_a_lock
from tests.ledgers import PostgresStorage, result_of, transact
from ticketd.commits.catalogue import Catalogue
from ticketd.ledger.base import SharedLedger
from ticketd.wire.requests import Amend, Book, Create, Delete, Show

# Only the query for changes asks for this time. It has its snapshot already, and waits.
SLOW_CLOCK = """
CREATE OR REPLACE FUNCTION ticketd.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '0', false);
    PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7);
    RETURN current_setting('test.now')::timestamptz;
END $$;
SELECT pg_advisory_lock(7)
"""


async def test_a_look_under_way_does_not_bring_a_deleted_event_back(database: str) -> None:
    clock = Clock()
    ledger = await PostgresStorage(database, clock).open()
    assert isinstance(ledger, SharedLedger)
    created = await transact(ledger, [Create("Jazz", clock.time, 10, "jazz")])
    catalogue = Catalogue(created.events)
    other = await asyncpg.connect(database)
    await other.execute(SLOW_CLOCK)
    looking = asyncio.create_task(ledger.fetch_changes())
    await until_somebody_waits_for_a_lock(other)
    deleted = await transact(ledger, [Delete("jazz")])
    catalogue.remove(deleted.removed)
    await other.execute("SELECT pg_advisory_unlock(7)")
    changes = await looking
    catalogue.remove(changes.removed)
    catalogue.publish(changes.events)
    assert catalogue.events() == []
    # What is made meanwhile is seen the next time.
    await transact(ledger, [Create("Jazz", clock.time, 10, "jazz")])
    assert [event.id for event in (await ledger.fetch_changes()).events] == ["jazz"]
    await other.close()
    await ledger.close()


async def test_a_look_under_way_does_not_remove_what_was_made_again(database: str) -> None:
    clock = Clock()
    ledger = await PostgresStorage(database, clock).open()
    assert isinstance(ledger, SharedLedger)
    jazz = Create("Jazz", clock.time, 10, "jazz")
    catalogue = Catalogue((await transact(ledger, [jazz])).events)
    catalogue.remove((await transact(ledger, [Delete("jazz")])).removed)
    other = await asyncpg.connect(database)
    await other.execute(SLOW_CLOCK)
    looking = asyncio.create_task(ledger.fetch_changes())
    await until_somebody_waits_for_a_lock(other)
    # With a deletion, the time is asked of the database before, by another function.
    catalogue.publish((await transact(ledger, [jazz, Delete("unknown")])).events)
    await other.execute("SELECT pg_advisory_unlock(7)")
    changes = await looking
    catalogue.remove(changes.removed)
    catalogue.publish(changes.events)
    assert [event.id for event in catalogue.events()] == ["jazz"]
    await other.close()
    await ledger.close()


@pytest.mark.parametrize("asks", ["books", "is shown a booking", "amends"])
async def test_a_look_under_way_does_not_take_an_event_back_that_was_made_again(database: str, asks: str) -> None:
    clock = Clock()
    storage = PostgresStorage(database, clock)
    ledger, elsewhere = await storage.open(), await storage.open()
    assert isinstance(ledger, SharedLedger)
    jazz = Create("Jazz", clock.time, 10, "jazz")
    catalogue = Catalogue((await transact(ledger, [jazz])).events)
    await elsewhere.events()
    await transact(elsewhere, [Delete("jazz"), jazz])
    other = await asyncpg.connect(database)
    await other.execute(SLOW_CLOCK)
    looking = asyncio.create_task(ledger.fetch_changes())
    await until_somebody_waits_for_a_lock(other)
    # The refusal makes the ledger ask for the time before, by a function that does not wait.
    requests = [Book("jazz", 1, booking="a"), Book("jazz", 10, booking="b")]
    if asks == "books":
        answers = await transact(ledger, requests)
    elif asks == "amends":
        answers = await transact(ledger, [Amend("jazz", capacity=9), Delete("unknown")])
    else:
        await transact(elsewhere, requests)
        answers = await result_of(ledger.read, [Show("jazz", kind="booking")])
    catalogue.publish(answers.events)
    await other.execute("SELECT pg_advisory_unlock(7)")
    told = []
    for _ in range(3):
        assert [(event.available, event.version) for event in catalogue.events()] == [(9, 1)]
        changes = await looking
        catalogue.remove(changes.removed)
        catalogue.publish(changes.events)
        told.append(changes.removed)
        looking = asyncio.create_task(ledger.fetch_changes())
    assert [(event.available, event.version) for event in catalogue.events()] == [(9, 1)]
    await looking
    # Of the removal it is told once. If nothing was sold since, the next look tells.
    assert told == ([set(), {"jazz"}, set()] if asks == "amends" else [{"jazz"}, set(), set()])
    await other.close()
    await ledger.close()
    await elsewhere.close()


# Only what loads bookings asks for this time. It has its snapshot already, and waits.
SLOW_LOAD = """
CREATE OR REPLACE FUNCTION ticketd.statement_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '0', false);
    PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7);
    RETURN current_setting('test.now')::timestamptz;
END $$;
SELECT pg_advisory_lock(7)
"""


async def test_an_answer_from_before_a_deletion_does_not_bring_the_event_back(database: str) -> None:
    clock = Clock()
    ledger = await PostgresStorage(database, clock).open()
    assert isinstance(ledger, SharedLedger)
    catalogue = Catalogue((await transact(ledger, [Create("Jazz", clock.time, 10, "jazz", paused=True)])).events)
    other = await asyncpg.connect(database)
    await other.execute(SLOW_LOAD)
    refused = asyncio.create_task(transact(ledger, [Book("jazz", 1)]))
    shown = asyncio.create_task(result_of(ledger.read, [Show("jazz", kind="booking")]))
    await until_somebody_waits_for_a_lock(other)
    # Another daemon deletes it, which is seen before both are answered.
    await other.execute("DELETE FROM ticketd.events")
    changes = await ledger.fetch_changes()
    catalogue.remove(changes.removed)
    await other.execute("SELECT pg_advisory_unlock(7)")
    for answers in (await refused, await shown):
        catalogue.publish(answers.events)
    for _ in range(2):
        changes = await ledger.fetch_changes()
        catalogue.remove(changes.removed)
        catalogue.publish(changes.events)
    assert catalogue.events() == []
    await other.close()
    await ledger.close()
