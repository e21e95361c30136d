"""Tables of an older schema, kept as an older ticketd left them, are migrated: whole, or not at all."""

import itertools
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.faults.proxy import Fault, Proxy, Side
from tests.ledger.asking import faults_of, outcome
from tests.ledger.sale import commit
from tests.ledger.test_move_cut_short import SIDES
from tests.ledgers import COMMIT_SECONDS_MAX
from tests.postgres import query
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.postgres.ledger import PostgresLedger
from ticketd.ledger.postgres.offline import migrate_tables
from ticketd.ledger.postgres.schema import SCHEMA_VERSION
from ticketd.ledger.rows import TABLES
from ticketd.wire.requests import Amend, Book, Cancel, Wait

OLD = {version: (Path(__file__).parent / "kept" / f"schema-{version}.sql").read_text() for version in (1, 2)}
# The columns that came later.
NEW = {1: {"actor", "waiting"}, 2: {"waiting"}}

Rows = dict[str, list[tuple[Any, ...]]]


async def restore(url: str, version: int) -> None:
    """Put older tables into a database."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"DROP SCHEMA IF EXISTS ticketd CASCADE; {OLD[version]}")
    await connection.close()


def rows_in(url: str, version: int) -> Rows:
    """Return all rows of a sale, as far as older tables have them."""
    rows = {}
    for table in TABLES:
        columns = ", ".join(name for name in table.columns.split(", ") if name not in NEW[version])
        select = f"SELECT {columns} FROM ticketd.{table.name} ORDER BY {table.order}"
        rows[table.name] = [tuple(row) for row in query(url, select)]
    return rows


@pytest.mark.parametrize("version", OLD)
async def test_older_tables_are_migrated_at_the_start_and_sell(version: int, database: str) -> None:
    await restore(database, version)
    before = rows_in(database, version)
    states = {row[3] for row in before["bookings"]}
    assert states == {"held", "confirmed", "released", "expired", "cancelled"}
    ledger = await PostgresLedger.open(database, COMMIT_SECONDS_MAX)
    assert rows_in(database, version) == before
    await commit(ledger, Book("jazz", 1, "new"), "box-1")
    # What was sold before there were waiting lists goes to those who wait.
    assert await outcome(ledger, Wait("blues", 3, 900, "a"), Wait("blues", 1, 900, "b")) == ["waiting"] * 2
    assert await outcome(ledger, Cancel("sold-out"), Amend("blues", capacity=4)) == ["cancelled", "event"]
    await ledger.close()
    found = query(database, "SELECT id, state, actor FROM ticketd.bookings WHERE id IN ('new', 'a', 'b') ORDER BY id")
    assert [*map(tuple, found)] == [("a", "held", None), ("b", "held", None), ("new", "confirmed", "box-1")]
    assert await faults_of(database) == ["whole"]


# What tells one schema from another: columns, constraints, indexes, functions and triggers.
PARTS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
    " WHERE table_schema = 'ticketd' ORDER BY 1, 2",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'ticketd'::regnamespace ORDER BY 1, 2",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'ticketd' ORDER BY 1",
    "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'ticketd'::regnamespace ORDER BY 1",
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
)


@pytest.mark.parametrize("version", OLD)
async def test_migrated_tables_are_those_of_a_new_ledger(version: int, database: str, another_database: str) -> None:
    await restore(database, version)
    found = []
    for url in (database, another_database):
        await migrate_tables(url, None)
        found.append([[tuple(row) for row in query(url, part)] for part in PARTS])
    assert found[0] == found[1]


async def test_a_check_of_older_tables_says_what_to_do(database: str) -> None:
    await restore(database, 2)
    with pytest.raises(
        CannotOpenError, match="has schema 2, and this ticketd checks schema 3 only; run ticketd migrate"
    ):
        await faults_of(database)


@pytest.mark.parametrize("side", SIDES)
async def test_a_cut_connection_leaves_the_old_or_the_new_tables(
    side: Side, database: str, chance: random.Random
) -> None:
    """It takes some seconds, although it cuts at every 15th message only."""
    state = (
        "SELECT schema_version, (SELECT count(*) FROM ticketd.bookings), ARRAY(SELECT attname::text FROM pg_attribute"
        " WHERE attname IN ('actor', 'waiting') AND attrelid IN ('ticketd.bookings'::regclass,"
        " 'ticketd.events'::regclass) ORDER BY 1) FROM ticketd.ledger"
    )
    with Proxy(database) as proxy:
        for passed in itertools.count(chance.randrange(15), 15):
            await restore(database, 1)
            proxy.inject([Fault(side, "message", passed, chance.choice([0.0, 0.5, 1.0]), "reset")])
            with suppress(CannotOpenError):
                await migrate_tables(proxy.url, None)
            proxy.inject([])
            unharmed = proxy.struck.empty()
            while not proxy.struck.empty():
                proxy.struck.get()
            assert tuple(query(database, state)[0]) in ((1, 11, []), (SCHEMA_VERSION, 11, ["actor", "waiting"]))
            if unharmed:
                break
    assert passed > 10
