"""Owns the tables of the ledger in PostgreSQL. They have a schema of their own, so the database can be shared.

They are like those of the embedded ledger (see ``embedded.schema``). There are no foreign keys: a booking is only added
under the lock of its event, no daemon deletes a booking, and checking keys would take half of the time for which a hot
event is locked. ``changed`` is the last transaction that changed an event, by which other daemons find changes, and
``removals`` has the events that were removed, by ``delete`` or by an operator. ``commits`` has a row for each
connection of a daemon, with the id of the last batch committed on it. A connection that is ``fenced`` can commit
nothing more. ``ledger`` is one row, with the mark of a move, and the cluster in which the ledger was last sold from
(see ``cluster``).

The owner of the tables creates and upgrades them. A daemon needs no more rights than ``grant`` gives.
"""

import logging

import asyncpg

from ticketd.ledger.base import CannotOpenError, LedgerDamagedError
from ticketd.ledger.marks import MARK_COLUMNS, Mark
from ticketd.ledger.postgres.function import SAVE_FUNCTION
from ticketd.model import CAPACITY_MAX, TICKETS_PER_BOOKING_MAX

log = logging.getLogger(__name__)

SCHEMA = "ticketd"
SCHEMA_VERSION = 3
# The key of the advisory lock under which the tables are created: two daemons may start at once.
_LOCK = 0x7469636B

_TABLES = f"""
CREATE TABLE ledger (
    schema_version integer NOT NULL, move text, arriving_from text, moved_to text,
    system_identifier bigint, timeline integer
);
CREATE UNIQUE INDEX one_row ON ledger ((true));
INSERT INTO ledger VALUES ({SCHEMA_VERSION});
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
    opens bigint,
    closes bigint,
    paused boolean NOT NULL,
    per_buyer integer,
    amendments integer NOT NULL CHECK (amendments BETWEEN 0 AND version),
    original jsonb,
    waiting integer NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    changed xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CHECK (sold >= sold_elsewhere),
    CHECK (sold + held + available = capacity)
) WITH (fillfactor = 50);
CREATE INDEX lines ON events (id) WHERE waiting > 0;
CREATE TABLE bookings (
    id text COLLATE "C" PRIMARY KEY,
    event text COLLATE "C" NOT NULL,
    quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND {TICKETS_PER_BOOKING_MAX}),
    state text NOT NULL CHECK (state IN ('waiting', 'held', 'confirmed', 'released', 'expired', 'cancelled')),
    tickets jsonb NOT NULL,
    available integer NOT NULL CHECK (available >= 0),
    version bigint NOT NULL CHECK (version > 0),
    booked_at bigint NOT NULL,
    seconds integer,
    expires bigint,
    buyer text COLLATE "C",
    actor text,
    changes jsonb,
    CONSTRAINT expires_if_held CHECK (
        (seconds IS NOT NULL OR expires IS NULL) AND (state <> 'held' OR expires IS NOT NULL)
        AND (state <> 'waiting' OR (seconds IS NOT NULL AND expires IS NULL))
    )
);
CREATE INDEX holds ON bookings (expires, event, quantity) WHERE state = 'held';
CREATE INDEX line ON bookings (event, quantity, version) WHERE state = 'waiting';
CREATE INDEX positions ON bookings (event, version) WHERE state = 'waiting';
CREATE INDEX buyers ON bookings (event, buyer) WHERE buyer IS NOT NULL AND state IN ('waiting', 'held', 'confirmed');
CREATE TABLE redemptions (
    booking text COLLATE "C" NOT NULL,
    ticket text COLLATE "C" NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    what text NOT NULL CHECK (what IN ('redeem', 'annul')),
    at bigint NOT NULL,
    note text,
    actor text,
    PRIMARY KEY (booking, ticket, number)
);
CREATE TABLE commits (
    connection text COLLATE "C" PRIMARY KEY,
    batch text,
    at timestamptz NOT NULL DEFAULT now(),
    fenced boolean NOT NULL DEFAULT false
);
CREATE TABLE removals (event text COLLATE "C" PRIMARY KEY, changed xid8 NOT NULL DEFAULT pg_current_xact_id());
"""
# They keep nothing, so they are made anew with each migration.
_FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION note_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The role of a daemon may delete what was never sold, and no more. The owner may delete anything.
    IF (OLD.sold > 0 OR OLD.held > 0 OR OLD.version <> OLD.amendments) AND NOT pg_has_role(
        (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = '{SCHEMA}'), 'USAGE'
    ) THEN
        RAISE EXCEPTION 'tickets of event % were sold or held', OLD.id USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO {SCHEMA}.removals (event) VALUES (OLD.id)
    ON CONFLICT (event) DO UPDATE SET changed = excluded.changed;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS note_removal ON events;
CREATE TRIGGER note_removal AFTER DELETE ON events FOR EACH ROW EXECUTE FUNCTION note_removal();
{SAVE_FUNCTION}
"""
# What leads from each older version to the next one.
MIGRATIONS = {
    # Who made a booking, and who let in.
    1: """
ALTER TABLE bookings ADD COLUMN IF NOT EXISTS actor text;
ALTER TABLE redemptions ADD COLUMN IF NOT EXISTS actor text;
""",
    # The waiting list.
    2: """
ALTER TABLE events ADD COLUMN waiting integer NOT NULL DEFAULT 0 CHECK (waiting >= 0);
CREATE INDEX lines ON events (id) WHERE waiting > 0;
ALTER TABLE bookings DROP CONSTRAINT bookings_state_check, DROP CONSTRAINT bookings_check,
    DROP CONSTRAINT bookings_check1,
    ADD CONSTRAINT bookings_state_check
        CHECK (state IN ('waiting', 'held', 'confirmed', 'released', 'expired', 'cancelled')),
    ADD CONSTRAINT expires_if_held CHECK (
        (seconds IS NOT NULL OR expires IS NULL) AND (state <> 'held' OR expires IS NOT NULL)
        AND (state <> 'waiting' OR (seconds IS NOT NULL AND expires IS NULL))
    );
CREATE INDEX line ON bookings (event, quantity, version) WHERE state = 'waiting';
CREATE INDEX positions ON bookings (event, version) WHERE state = 'waiting';
DROP INDEX buyers;
CREATE INDEX buyers ON bookings (event, buyer) WHERE buyer IS NOT NULL AND state IN ('waiting', 'held', 'confirmed');
""",
}

# What there is after all migrations. A restore may have left something out.
_PARTS = [
    *(f"table {name}" for name in ("ledger", "events", "bookings", "redemptions", "commits", "removals")),
    *(f"function {name}" for name in ("note_removal", "shifted", "save")),
]
# It needs no rights to them.
_PRESENT = """
WITH own AS (SELECT oid FROM pg_namespace WHERE nspname = $1)
SELECT 'table ' || relname FROM pg_class, own WHERE relnamespace = own.oid AND relkind = 'r'
UNION SELECT 'function ' || proname FROM pg_proc, own WHERE pronamespace = own.oid
"""

# No transaction of a connection that was last seen a day ago can still arrive.
_FORGET_CONNECTIONS = f"DELETE FROM {SCHEMA}.commits WHERE at < now() - interval '1 day'"

# After a restore into a new cluster, whose transactions have lower numbers, every event would look changed for long.
_RENUMBER_CHANGES = f"""
UPDATE {SCHEMA}.events SET changed = pg_current_xact_id() WHERE changed >= pg_snapshot_xmax(pg_current_snapshot());
UPDATE {SCHEMA}.removals SET changed = pg_current_xact_id() WHERE changed >= pg_snapshot_xmax(pg_current_snapshot());
"""

_OWNS = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1"
# What a daemon does, and no more.
_GRANTS = f"""
GRANT USAGE ON SCHEMA {SCHEMA} TO {{role}};
GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO {{role}};
GRANT INSERT, UPDATE, DELETE ON {SCHEMA}.events TO {{role}};
GRANT INSERT, UPDATE ON {SCHEMA}.bookings, {SCHEMA}.removals TO {{role}};
GRANT INSERT ON {SCHEMA}.redemptions TO {{role}};
GRANT INSERT, UPDATE, DELETE ON {SCHEMA}.commits TO {{role}};
GRANT UPDATE ON {SCHEMA}.ledger TO {{role}};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {SCHEMA} TO {{role}};
"""


async def schema_version(connection: asyncpg.Connection, name: str) -> int | None:
    """Return the version of the tables, or None if there are none.

    ``name`` is the name of the database in messages. Raises LedgerDamagedError if only some are there, or if the ledger
    does not have its one row.
    """
    present = [part for [part] in await connection.fetch(_PRESENT, SCHEMA)]
    missing = [part for part in _PARTS if part not in present]
    if missing == _PARTS:
        return None
    if "table ledger" in missing:
        raise _not_whole(name, f"{missing[0]} is missing")
    rows = await connection.fetch(f"SELECT schema_version FROM {SCHEMA}.ledger")
    if len(rows) != 1:
        raise _not_whole(name, f"table ledger has {len(rows):,} rows instead of one")
    version: int = rows[0][0]
    if missing and version == SCHEMA_VERSION:
        raise _not_whole(name, f"{missing[0]} is missing")
    return version


def _not_whole(name: str, fault: str) -> LedgerDamagedError:
    return LedgerDamagedError(
        f"the schema {SCHEMA} in the database {name} is not whole: {fault}; restore it, or use an empty database"
    )


async def read_mark(connection: asyncpg.Connection) -> Mark:
    """Return the mark of a ledger that exists."""
    [row] = await connection.fetch(f"SELECT {MARK_COLUMNS} FROM {SCHEMA}.ledger")
    return Mark(*row)


async def migrate(connection: asyncpg.Connection, name: str) -> None:
    """Upgrade the tables, and then remove what would only slow down the daemon that starts. Raises CannotOpenError.

    It must not be called in a transaction: what is removed need not be durable.
    """
    await upgrade(connection, name)
    try:
        async with connection.transaction():
            # Lost with this cluster, it is done again at the next start. And a standby may be away.
            await connection.execute("SET LOCAL synchronous_commit = local")
            await connection.execute(_FORGET_CONNECTIONS)
            await connection.execute(_RENUMBER_CHANGES)
    except asyncpg.InsufficientPrivilegeError as error:
        raise lacks_rights(connection, name, error) from error


async def upgrade(connection: asyncpg.Connection, name: str) -> None:
    """Create the tables, or upgrade those of an older ticketd. If they are up to date, this needs no right to do so.

    ``name`` is the name of the database in messages. Raises CannotOpenError if the tables are of a newer ticketd or not
    whole, or if the role of the connection lacks rights.
    """
    try:
        async with connection.transaction():
            if await schema_version(connection, name) != SCHEMA_VERSION:
                await _upgrade(connection, name)
    except asyncpg.InsufficientPrivilegeError as error:
        raise lacks_rights(connection, name, error) from error


def lacks_rights(
    connection: asyncpg.Connection, name: str, error: asyncpg.InsufficientPrivilegeError
) -> CannotOpenError:
    """Return the error about a role that lacks rights, with what gives it those of a daemon."""
    role = connection.get_settings().session_authorization
    return CannotOpenError(
        f"the role {role} cannot create, upgrade or use the ledger in the database {name} ({error}); as the owner, run:"
        f" ticketd migrate postgresql://OWNER@{name} --grant {role}"
    )


async def _upgrade(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute("SET LOCAL lock_timeout = 0")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    # Another daemon may have created it before this one got the lock, which to_regnamespace() would not see.
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", SCHEMA):
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    version = await schema_version(connection, name)
    if version is not None and version > SCHEMA_VERSION:
        raise CannotOpenError(
            f"the ledger in the database {name} has schema {version}, and this ticketd knows none after"
            f" {SCHEMA_VERSION}; start a newer ticketd"
        )
    if version is not None and version < min(MIGRATIONS):
        raise CannotOpenError(
            f"the ledger in the database {name} has schema {version}, which is too old to migrate; this ticketd"
            f" migrates from schema {min(MIGRATIONS)} on; start the ticketd that wrote it"
        )
    if version is None:
        log.info("there is no ledger in the database %s; creating a new one", name)
        await connection.execute(_TABLES)
    elif version < SCHEMA_VERSION:
        log.info("migrating the ledger in the database %s from schema %d to schema %d", name, version, SCHEMA_VERSION)
        for step in range(version, SCHEMA_VERSION):
            await connection.execute(MIGRATIONS[step])
        await connection.execute("UPDATE ledger SET schema_version = $1", SCHEMA_VERSION)
    await connection.execute(_FUNCTIONS)


async def check_owner(connection: asyncpg.Connection, name: str, what: str) -> None:
    """Raise CannotOpenError unless the role of the connection may do what the owner may. ``what`` says what it does."""
    if not await connection.fetchval(_OWNS, SCHEMA):
        raise CannotOpenError(
            f"only the owner of the ledger in the database {name} can {what}; use postgresql://OWNER@{name}"
        )


async def grant(connection: asyncpg.Connection, role: str, name: str) -> None:
    """Give a role the rights of a daemon, and no others. Raises CannotOpenError."""
    quoted = await connection.fetchval("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname = $1", role)
    if quoted is None:
        raise CannotOpenError(f'there is no role "{role}" in the database {name}; create it first')
    # PostgreSQL would only warn that it gives nothing.
    await check_owner(connection, name, "grant rights to it")
    await connection.execute(_GRANTS.format(role=quoted))
