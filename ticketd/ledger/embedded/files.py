"""Access to the files of an embedded ledger through SQLite's VFS: the database, its log and its seal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import apsw
import apsw.sqlite_extra

from ticketd.ledger.base import CannotOpenError, LedgerDamagedError

# SQLite's VFS counts the bytes of a write with 17 bits, so it reports a full disk for a write of 128 KiB.
COPY_BYTES = 64 * 1024
# The checksum VFS needs this many bytes at the end of each page.
CHECKSUM_BYTES = 8
# The errors of SQLite when the disk does not return what was written to it.
UNREADABLE = (apsw.IOError, apsw.CorruptError, apsw.NotADBError)


def log_path(path: Path) -> Path:
    """Return where the log of a ledger is."""
    return Path(f"{path}-wal")


def journal_path(path: Path) -> Path:
    """Return where the journal of a ledger is while the ledger is created."""
    return Path(f"{path}-journal")


def seal_path(path: Path) -> Path:
    """Return where the seal of a ledger is."""
    return Path(f"{path}-seal")


def files_of(path: Path) -> tuple[Path, ...]:
    """Return where all files of a ledger are, or may be."""
    path = path.resolve()
    return path, log_path(path), seal_path(path), journal_path(path)


def refuse_folder(path: Path) -> None:
    """Raise CannotOpenError if there is a folder where a ledger should be."""
    if path.is_dir():
        raise CannotOpenError(f"{path} is a folder, not a ledger; name a file in it, such as {path / 'events.db'}")


def refuse_unwritable(path: Path) -> None:
    """Raise CannotOpenError if a file of a ledger, or the folder in which it will be made, cannot be written."""
    refuse_folder(path)
    # SQLite takes a file that cannot be read for one that is missing, and calls the rest an I/O error.
    for file in (path, log_path(path), seal_path(path)):
        needed, access = file, os.R_OK | os.W_OK
        if not file.exists():
            needed, access = file.parent, os.W_OK | os.X_OK
        if needed.exists() and not os.access(needed, access, effective_ids=True):
            why = "must be readable and writable for the user that ticketd runs as"
            if os.statvfs(needed).f_flag & os.ST_RDONLY:
                why = "is on a file system that is read-only"
            raise CannotOpenError(f"the ledger {path} cannot be written: {needed} {why}")


def identity_of(path: Path | str) -> tuple[int, int] | None:
    """Return what a file is recognized by, whatever it is called, or None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def opened(path: Path, kind: int, access: int = apsw.SQLITE_OPEN_READONLY) -> Iterator[apsw.VFSFile]:
    """Open a file of this kind, such as SQLITE_OPEN_WAL, through the VFS. Raises apsw.Error.

    If SQLite has a file open as a database, and it is opened as one here, closing it keeps SQLite's locks.
    """
    file = apsw.VFSFile("", str(path), [access | kind, 0])
    try:
        yield file
    finally:
        file.xClose()


def size_of(path: Path) -> int:
    """Return the size of a file as SQLite sees it, 0 if there is none."""
    try:
        with opened(path, apsw.SQLITE_OPEN_MAIN_DB) as file:
            return file.xFileSize()
    except apsw.CantOpenError:
        return 0


def damaged(path: Path, error: apsw.Error | str) -> LedgerDamagedError:
    """Return the error for a ledger that cannot be read."""
    return LedgerDamagedError(
        f"the ledger {path} is damaged ({reason(error)}); restore it from a backup, with its -wal and -seal"
    )


def reason(error: apsw.Error | str) -> str:
    """Return a phrase that says why a ledger cannot be read."""
    if getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_DATA:
        return "a page has a wrong checksum"
    return str(error)


def load_digests(connection: apsw.Connection) -> None:
    """Load the function that the digests of bookings need."""
    apsw.sqlite_extra.load(connection, "sha1")


@cache
def load_checksums() -> None:
    """Verify the pages of every database that is opened from now on, if they have room for checksums."""
    try:
        with apsw.Connection(":memory:") as memory:
            apsw.sqlite_extra.load(memory, "cksumvfs")
    except (apsw.sqlite_extra.NotAvailable, LookupError) as error:
        raise CannotOpenError(f"this apsw comes without the checksum VFS ({error}); install a wheel of apsw") from error


def fold_log(connection: apsw.Connection) -> bool:
    """Fold the log into the file (a checkpoint), and return whether that has all of it. Raises apsw.Error.

    What does not fit into the file, for lack of room, stays in the log.
    """
    try:
        pages, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.FullError:
        return False
    if moved != pages:
        raise apsw.LockedError(f"the checkpoint moved {moved} of {pages} pages")
    return True


def make_log_durable(path: Path) -> None:
    """Rewrite the whole log and sync it.

    The process that wrote it may have died before a sync, or because the sync failed. After a failed sync, Linux marks
    pages as clean that are not on the disk, and the next sync succeeds without them (Rebello et al., "Can Applications
    Recover from fsync Failures?", USENIX ATC 2020).
    """
    log = log_path(path)
    size = size_of(log)
    if not size:
        return
    with opened(log, apsw.SQLITE_OPEN_WAL, apsw.SQLITE_OPEN_READWRITE) as file:
        for start in range(0, size, COPY_BYTES):
            file.xWrite(file.xRead(min(COPY_BYTES, size - start), start), start)
        file.xSync(apsw.SQLITE_SYNC_NORMAL)
