"""The tables of the ledger in PostgreSQL, in a schema of their own, so that a database may be shared.

They hold what the embedded ledger holds (see ``sqlite_file``). There are no foreign keys: whoever adds a booking holds
the lock of its event, nothing is ever deleted, and looking up each row once more would take half of the time for which
a hot event is locked. ``changed`` is the transaction that changed an event last: by it the other daemons find out.
``commits`` has a row for each connection of a daemon, with the mark of the last batch that it committed.
"""

import logging

import asyncpg

from ticketd.model import CAPACITY_MAX, TICKETS_PER_BOOKING_MAX
from ticketd.stores.base import CannotOpenError

log = logging.getLogger(__name__)

SCHEMA = "ticketd"
# Two daemons that start at once make the tables one after the other.
_LOCK = 0x7469636B

# What brings a ledger of each version to the next one; the first makes it.
_MIGRATIONS = [
    f"""
CREATE TABLE ledger (schema_version integer NOT NULL);
INSERT INTO ledger VALUES (0);
CREATE TABLE events (
    number bigint GENERATED ALWAYS AS IDENTITY,
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    date timestamptz NOT NULL,
    capacity integer NOT NULL CHECK (capacity BETWEEN 1 AND {CAPACITY_MAX}),
    available integer NOT NULL CHECK (available >= 0),
    held integer NOT NULL CHECK (held >= 0),
    sold integer NOT NULL,
    version bigint NOT NULL CHECK (version >= 0),
    sold_elsewhere integer NOT NULL CHECK (sold_elsewhere >= 0),
    original jsonb,
    changed xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CHECK (sold >= sold_elsewhere),
    CHECK (sold + held + available = capacity)
) WITH (fillfactor = 50);
CREATE TABLE bookings (
    id text COLLATE "C" PRIMARY KEY,
    event text COLLATE "C" NOT NULL,
    quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND {TICKETS_PER_BOOKING_MAX}),
    state text NOT NULL CHECK (state IN ('held', 'confirmed', 'released', 'expired', 'cancelled')),
    tickets text NOT NULL,
    available integer NOT NULL CHECK (available >= 0),
    version bigint NOT NULL CHECK (version > 0),
    seconds integer,
    expires timestamptz,
    changes jsonb,
    CHECK ((seconds IS NULL) = (expires IS NULL)),
    CHECK (state <> 'held' OR expires IS NOT NULL)
);
CREATE INDEX holds ON bookings (expires, event, quantity) WHERE state = 'held';
CREATE TABLE tickets (
    id text COLLATE "C" PRIMARY KEY,
    event text COLLATE "C" NOT NULL,
    booking text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('valid', 'redeemed', 'cancelled')),
    redeemed_at timestamptz,
    CHECK ((state = 'redeemed') = (redeemed_at IS NOT NULL))
);
CREATE TABLE commits (line text COLLATE "C" PRIMARY KEY, batch text, at timestamptz NOT NULL DEFAULT now());
""",
]


async def migrate(connection: asyncpg.Connection, name: str) -> None:
    """Make the tables, or bring those of an older ticketd up to date. Raises CannotOpenError for those of a newer.

    ``name`` is what the log calls the database.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA) is None:
            await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        version = 0
        if await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.ledger") is not None:
            version = await connection.fetchval("SELECT schema_version FROM ledger")
        if version > len(_MIGRATIONS):
            raise CannotOpenError(
                f"the ledger in the database has schema {version}, and this ticketd knows none after"
                f" {len(_MIGRATIONS)}; start a newer ticketd"
            )
        if version == 0:
            log.info("there was no ledger in the database %s, and a new one is made", name)
        for migration in _MIGRATIONS[version:]:
            await connection.execute(migration)
        await connection.execute("UPDATE ledger SET schema_version = $1", len(_MIGRATIONS))
        await connection.execute("DELETE FROM commits WHERE at > '-infinity' AND at < now() - interval '1 day'")
