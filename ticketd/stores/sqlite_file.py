"""The file of the embedded ledger: opening it, its schema, and seeing that nothing acknowledged is missing from it.

A ledger serves all that was acknowledged, or it is not opened. Three things see to that, since SQLite by itself takes
a damaged log for a shorter one, and reads a damaged page as if nothing were wrong:

- the commits that the ledger has are compared with those that its seal says were acknowledged, and those that the
  file has without its log with those that it had when the log was begun;
- each page carries a checksum that is verified whenever it is read (SQLite's own checksum VFS, which apsw ships);
- at the start the log is folded into the file, and then every page of the file that is in use is read.
"""

import logging
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple

import apsw
import apsw.sqlite_extra

from ticketd.model import CAPACITY_MAX, TICKETS_PER_BOOKING_MAX
from ticketd.stores.base import CannotOpenError
from ticketd.stores.seal import Seal

log = logging.getLogger(__name__)

APPLICATION_ID = 0x7469636B  # "tick", so that file(1) and we know a ledger when we see one
SCHEMA_VERSION = 2
PAGE_CACHE_KIB = 32 * 1024
# SQLite writes no more at once: a write of 128 KiB would find no room on any disk.
COPY_BYTES = 64 * 1024
# What the checksum VFS needs at the end of each page.
_CHECKSUM_BYTES = 8
# What SQLite raises for a disk that does not give back what was written to it.
UNREADABLE = (apsw.IOError, apsw.CorruptError, apsw.NotADBError)

# A booking carries the ids of its tickets, so that it is found with one look into one B-tree; each ticket is a row of
# its own as well. `number` keeps the events in the order of creation. Times of holds and of redemption are milliseconds
# since 1970 in UTC. `changes` and `original` are JSON, and NULL for what was only booked or created. The index has
# nothing but holds that have not ended, so that a plain booking does not touch it. `ledger` is one row: how
# many commits there were, and how many when the log was last folded into the file.
_SCHEMA = f"""
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    date TEXT NOT NULL,
    capacity INTEGER NOT NULL CHECK (capacity BETWEEN 1 AND {CAPACITY_MAX}),
    available INTEGER NOT NULL CHECK (available >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    sold INTEGER NOT NULL CHECK (sold >= sold_elsewhere),
    version INTEGER NOT NULL CHECK (version >= 0),
    sold_elsewhere INTEGER NOT NULL CHECK (sold_elsewhere >= 0),
    original TEXT,
    CHECK (sold + held + available = capacity)
) STRICT;
CREATE TABLE bookings (
    id TEXT PRIMARY KEY,
    event TEXT NOT NULL REFERENCES events (id),
    quantity INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND {TICKETS_PER_BOOKING_MAX}),
    state TEXT NOT NULL CHECK (state IN ('held', 'confirmed', 'released', 'expired', 'cancelled')),
    tickets TEXT NOT NULL,
    available INTEGER NOT NULL CHECK (available >= 0),
    version INTEGER NOT NULL CHECK (version > 0),
    seconds INTEGER,
    expires INTEGER,
    changes TEXT,
    CHECK ((seconds IS NULL) = (expires IS NULL)),
    CHECK (state <> 'held' OR expires IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX holds ON bookings (expires, event, quantity) WHERE state = 'held';
CREATE TABLE tickets (
    id TEXT PRIMARY KEY,
    event TEXT NOT NULL REFERENCES events (id),
    booking TEXT NOT NULL REFERENCES bookings (id),
    state TEXT NOT NULL CHECK (state IN ('valid', 'redeemed', 'cancelled')),
    redeemed_at INTEGER,
    CHECK ((state = 'redeemed') = (redeemed_at IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger (commits INTEGER NOT NULL, folded INTEGER NOT NULL) STRICT;
INSERT INTO ledger VALUES (0, 0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

# These read every page of every table and index, except where a long text goes on in further pages.
_READ_ALL = """
SELECT count(*) FROM events NOT INDEXED;
SELECT count(*) FROM events INDEXED BY sqlite_autoindex_events_1;
SELECT count(*) FROM bookings INDEXED BY holds WHERE state = 'held';
SELECT count(*) FROM tickets;
"""
# This reads those, and finds texts that break off: a page of zeros has the checksum of zeros, and ends a text. Rows of
# less than a thousand bytes have no further pages, which is most bookings by far.
_BROKEN_OFF = """
SELECT count(*) FROM bookings WHERE (quantity > 10 OR changes IS NOT NULL)
AND (length(tickets) <> octet_length(tickets) OR length(changes) <> octet_length(changes))
"""


class Opened(NamedTuple):
    """A ledger that is whole: its connection, its seal, and how many commits it has."""

    connection: apsw.Connection
    seal: Seal
    commits: int


def open_ledger(path: Path, *, accept_losses: bool = False) -> Opened:
    """Open the ledger at ``path``, or make one, and see that it is whole. Raises CannotOpenError.

    With ``accept_losses`` commits may be missing, but no page be damaged. One that lacks commits is left as it was.
    """
    _load_checksums()
    # SQLite has the log beside the file itself, not beside a link to it.
    path = path.resolve()
    try:
        _refuse_log_without_file(path)
        connection = apsw.Connection(str(path))
        try:
            # Closing must not fold a log into the file that may be the wrong one.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            return _open(connection, path, accept_losses)
        except BaseException:
            connection.close()
            raise
    except apsw.BusyError:
        raise CannotOpenError(
            f"the ledger {path} is in use by another ticketd, and two cannot sell the same tickets; stop that one first"
        ) from None
    except apsw.NotADBError:
        if _size(_seal_path(path)):
            raise damaged(path, "its first page is not that of a database") from None
        raise CannotOpenError(f"{path} is not a ledger of ticketd; give another --store") from None
    except apsw.FullError:
        raise CannotOpenError(f"the disk is full, and the ledger {path} cannot be opened; make room first") from None
    except apsw.CantOpenError as error:
        where = f"are it, its -wal and its -seal files, in {path.parent}, that can be written to?"
        if not path.parent.is_dir():
            where = f"there is no folder {path.parent}"
        raise CannotOpenError(f"cannot open the ledger {path}: {error}; {where}") from error
    except apsw.Error as error:
        raise CannotOpenError(
            f"cannot open the ledger {path}, its -wal or its -seal: {error}; can they be read and written?"
        ) from error


def damaged(path: Path, error: apsw.Error | str) -> CannotOpenError:
    """Return what is said of a ledger that cannot be read."""
    return CannotOpenError(
        f"the ledger {path} is damaged ({reason(error)}); restore it from a backup, with its -wal and -seal"
    )


def reason(error: apsw.Error | str) -> str:
    """Return in words why a ledger cannot be read."""
    if getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_DATA:
        return "a page has a wrong checksum"
    return str(error)


@cache
def _load_checksums() -> None:
    """Let every database file that is opened from now on have its pages checked, if it has room for checksums."""
    try:
        with apsw.Connection(":memory:") as memory:
            apsw.sqlite_extra.load(memory, "cksumvfs")
    except (apsw.sqlite_extra.NotAvailable, LookupError) as error:
        raise CannotOpenError(f"this apsw comes without the checksum VFS ({error}); install a wheel of apsw") from error


def _open(connection: apsw.Connection, path: Path, accept_losses: bool) -> Opened:
    # Counts for a database that has no page yet.
    connection.reserve_bytes(reserve=_CHECKSUM_BYTES)
    connection.pragma("locking_mode", "EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE; COMMIT")
    is_new = _is_new(connection, path)
    seal = Seal(_seal_path(path))
    try:
        commits = 0 if is_new else _commits(connection, path)
        loss = None if is_new and seal.commits is None else _loss(seal, commits)
        if loss:
            _lament(path, loss, accept_losses)
        if is_new:
            # The seal before the ledger, so that none is ever without it. The ledger before its log, so that from the
            # first page on what is in the file has its checksums.
            seal.renew(0)
            log.info("there was no ledger %s, and a new one is made", path)
            connection.execute(f"BEGIN; {_SCHEMA} COMMIT")
        _make_log_durable(path)
        _prepare(connection, path)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        _find_damage(connection, path)
        seal.renew(commits)
    except BaseException:
        seal.close()
        raise
    return Opened(connection, seal, commits)


def _seal_path(path: Path) -> Path:
    return path.with_name(path.name + "-seal")


def _size(path: Path) -> int:
    """Return the size of a file as SQLite sees it, 0 if there is none."""
    try:
        # Opened as a database, since SQLite keeps the locks of one that is open already when this is closed.
        file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0])
    except apsw.CantOpenError:
        return 0
    try:
        return file.xFileSize()
    finally:
        file.xClose()


def _refuse_log_without_file(path: Path) -> None:
    # SQLite would take the log for what a file left behind that has been removed, and remove it.
    log = path.with_name(path.name + "-wal")
    if not _size(path) and _size(log):
        raise CannotOpenError(
            f"the ledger {path} is missing or empty, and its log {log} is there: put back the {path.name} that belongs"
            f" to it, or move {log.name} and {path.name}-seal away to begin a new ledger"
        )


def _make_log_durable(path: Path) -> None:
    """Write the log anew, byte by byte, and sync it.

    Whoever wrote it may have died before its sync, or because of it. After a sync that failed, Linux takes for written
    what is not on the disk, and the next sync succeeds without it (Rebello et al., "Can Applications Recover from
    fsync Failures?", USENIX ATC 2020).
    """
    log = path.with_name(path.name + "-wal")
    size = _size(log)
    if not size:
        return
    file = apsw.VFSFile("", str(log), [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0])
    try:
        for start in range(0, size, COPY_BYTES):
            file.xWrite(file.xRead(min(COPY_BYTES, size - start), start), start)
        file.xSync(apsw.SQLITE_SYNC_NORMAL)
    finally:
        file.xClose()


def _is_new(connection: apsw.Connection, path: Path) -> bool:
    """Whether there is nothing in the database yet. Raises CannotOpenError for what is no ledger that we know."""
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if not tables:
        return True
    if connection.pragma("application_id") != APPLICATION_ID:
        if _size(_seal_path(path)):
            raise damaged(path, "its first page is not that of a ledger")
        raise CannotOpenError(f"{path} is a database of another program; give another --store")
    version = connection.pragma("user_version")
    if version != SCHEMA_VERSION:
        raise CannotOpenError(
            f"the ledger {path} has schema {version}, and this ticketd knows schema {SCHEMA_VERSION} only;"
            " start the ticketd that wrote it"
        )
    return False


def _commits(connection: apsw.Connection, path: Path) -> int:
    """Return how many commits the ledger has, having seen that its log was begun on this very file."""
    try:
        commits, folded = connection.execute("SELECT commits, folded FROM ledger").get
        in_file = _commits_in_file(path)
    except UNREADABLE as error:
        raise damaged(path, error) from error
    if in_file is not None and not folded <= in_file <= commits:
        raise CannotOpenError(
            f"the ledger {path} and its log do not belong together: the log has commits {folded} to {commits}, and the"
            f" file without it {in_file}. Put back the {path.name} that belongs to {path.name}-wal; or, to go on with"
            f" the file alone, move {path.name}-wal away, and start once with --accept-losses"
        )
    return int(commits)


def _commits_in_file(path: Path) -> int | None:
    """Return how many commits the file has without its log, or None if a crash while the log was folded tore it."""
    try:
        uri = f"{path.as_uri()}?immutable=1"
        with closing(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)) as file:
            return int(file.execute("SELECT commits FROM ledger").get)
    except UNREADABLE:
        return None
    except apsw.SQLError:
        return -1


def _loss(seal: Seal, commits: int) -> str | None:
    """Return in words what is missing from a ledger with so many commits, or None if nothing is."""
    if seal.damaged:
        return "its seal is damaged, so nobody can tell whether it has all that was acknowledged"
    if seal.commits is None:
        return "its seal is missing, so nobody can tell whether it has all that was acknowledged"
    if seal.commits > commits:
        return f"it lacks {seal.commits - commits} of {seal.commits} commits that were acknowledged"
    return None


def _lament(path: Path, loss: str, accept_losses: bool) -> None:
    if not accept_losses:
        raise CannotOpenError(
            f"the ledger {path} is not whole: {loss}. Put back {path.name}, {path.name}-wal and {path.name}-seal"
            " that belong together, or start once with --accept-losses to go on with what is there"
        )
    log.warning("the ledger %s is opened although %s; what they sold is on sale again", path, loss)


def _prepare(connection: apsw.Connection, path: Path) -> None:
    mode = connection.pragma("journal_mode", "WAL")
    if mode != "wal":
        raise CannotOpenError(f"the ledger {path} cannot have a write-ahead log (journal_mode is {mode})")
    connection.pragma("synchronous", "FULL")
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("foreign_keys", True)
    connection.pragma("cache_size", -PAGE_CACHE_KIB)
    # A transaction that outgrows the cache would write to the log from the loop's thread.
    connection.pragma("cache_spill", False)
    connection.pragma("temp_store", "MEMORY")
    # Opens the log now, and not when the first request comes.
    connection.execute("BEGIN IMMEDIATE; COMMIT")


def _find_damage(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("checksum_verification") != "1":
        raise damaged(path, "its pages have no checksums")
    if _size(path) % connection.pragma("page_size"):
        # Its last page would be taken for one that ends in zeros, and its checksum is not looked at.
        raise damaged(path, "its last page is not whole")
    try:
        connection.execute(_READ_ALL).fetchall()
        broken_off = connection.execute(_BROKEN_OFF).get
    except UNREADABLE as error:
        raise damaged(path, error) from error
    if broken_off:
        raise damaged(path, f"{broken_off} bookings break off")
