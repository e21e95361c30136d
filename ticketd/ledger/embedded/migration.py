"""Owns the versions of the schema: which one a ledger has, and the steps from an older one to the present one.

All steps are done in one transaction. So after a crash there is the old ledger or the new one. The transaction counts
as a commit: so the old file is not taken for the one to which a newer log belongs.
"""

import logging
from pathlib import Path

import apsw

from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.files import UNREADABLE, damaged, seal_path, size_of
from ticketd.ledger.embedded.integrity import content_faults
from ticketd.ledger.embedded.schema import APPLICATION_ID, IS_OWNED, SCHEMA_VERSION

log = logging.getLogger(__name__)

# What leads from each older version to the next one. The table ``ledger``, the marks in it, and what ``total`` counts
# are read before, so they must stay as they are.
MIGRATIONS = {
    # Who made a booking, and who let in.
    5: "ALTER TABLE bookings ADD COLUMN actor TEXT; ALTER TABLE redemptions ADD COLUMN actor TEXT;",
    # The waiting list. SQLite cannot alter what a table checks, but the text of a table may get other checks
    # (https://sqlite.org/lang_altertable.html): no booking is written, and no room is needed for a copy of them.
    6: f"""
ALTER TABLE events ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0 CHECK (waiting >= 0);
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(replace(sql,
    'CHECK (state IN (''held'', ''confirmed'',', 'CHECK (state = ''confirmed'' OR state IN (''waiting'', ''held'','),
    'CHECK ((seconds IS NULL) = (expires IS NULL))', 'CHECK (seconds NOTNULL OR expires IS NULL)'),
    'CHECK (state <> ''held'' OR expires IS NOT NULL)', 'CHECK (state = ''confirmed'' OR CASE state
        WHEN ''held'' THEN expires NOTNULL
        WHEN ''waiting'' THEN seconds NOTNULL AND expires IS NULL
        ELSE true END)')
WHERE name = 'bookings';
PRAGMA writable_schema = RESET;
CREATE INDEX line ON bookings (event, quantity, version) WHERE state = 'waiting';
DROP INDEX buyers;
CREATE INDEX buyers ON bookings (event, buyer) WHERE buyer IS NOT NULL AND {IS_OWNED};
""",
}


def schema_version(connection: apsw.Connection, path: Path) -> int | None:
    """Return the version of a ledger's schema, None if the database is empty.

    Raises CannotOpenError if it is no ledger, or of a version that is not known here.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if not tables:
        return None
    if connection.pragma("application_id") != APPLICATION_ID:
        if size_of(seal_path(path)):
            raise damaged(path, "its first page is not that of a ledger")
        raise CannotOpenError(f"{path} is a database of another program; name another one")
    version = int(connection.pragma("user_version"))
    if version > SCHEMA_VERSION:
        raise CannotOpenError(
            f"the ledger {path} has schema {version}, and this ticketd knows none after {SCHEMA_VERSION};"
            " start a newer ticketd"
        )
    if version < SCHEMA_VERSION and version not in MIGRATIONS:
        raise CannotOpenError(
            f"the ledger {path} has schema {version}, which is too old to migrate; this ticketd migrates from schema"
            f" {min(MIGRATIONS)} on; start the ticketd that wrote it"
        )
    return version


def migrate(connection: apsw.Connection, path: Path, version: int, commits: int) -> int:
    """Bring a ledger with so many commits from an older version to the present one, durably; return its commits then.

    Raises CannotOpenError. Whatever is raised, the ledger is as it was once the connection is closed.
    """
    log.info("migrating the ledger %s from schema %d to schema %d", path, version, SCHEMA_VERSION)
    # The one transaction may not fit into memory.
    connection.pragma("cache_spill", True)
    try:
        connection.execute("BEGIN IMMEDIATE")
        for step in range(version, SCHEMA_VERSION):
            connection.execute(MIGRATIONS[step])
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("UPDATE ledger SET commits = ?", (commits + 1,))
        if fault := next(content_faults(connection, audited=False), None):
            raise damaged(path, fault)
        connection.execute("COMMIT")
    except UNREADABLE as error:
        raise damaged(path, error) from error
    connection.pragma("cache_spill", False)
    return commits + 1
