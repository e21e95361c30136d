"""Deleted events and what a daemon on PostgreSQL knows of them: they do not come back by chance."""

import asyncio

import asyncpg

from tests.faketime import Clock
from tests.ledger.test_postgres_locks import until_somebody_waits_for_a_lock
from tests.ledgers import PostgresStorage, transact
from ticketd.commits.catalogue import Catalogue
from ticketd.ledger.base import SharedLedger
from ticketd.wire.requests import Create, Delete

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
