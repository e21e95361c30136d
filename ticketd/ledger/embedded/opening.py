"""Opens or creates the embedded ledger. A ledger that lacks anything acknowledged is not opened.

SQLite alone does not ensure that: it reads a damaged log as a shorter one, and a damaged page without an error. Three
checks do:

- The commits in the ledger are counted: there must be as many as its seal says were acknowledged, and in the file
  without its log as many as when the log was begun.
- Every page has a checksum, which is verified whenever the page is read (https://sqlite.org/cksumvfs.html).
- At the start the log is folded into the file (a checkpoint), then every page that is in use is read, and their
  contents must agree: see ``integrity``. If the file is large, SQLite's own check is left to a FileCheck.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.files import (
    CHECKSUM_BYTES,
    UNREADABLE,
    damaged,
    fold_log,
    load_checksums,
    load_digests,
    log_path,
    make_log_durable,
    refuse_unwritable,
    seal_path,
    size_of,
)
from ticketd.ledger.embedded.integrity import FileCheck, content_faults, first_fault, open_file, page_fault
from ticketd.ledger.embedded.lock import Lock
from ticketd.ledger.embedded.migration import migrate, schema_version
from ticketd.ledger.embedded.schema import SCHEMA, SCHEMA_VERSION
from ticketd.ledger.embedded.seal import Seal, SealContent
from ticketd.ledger.marks import MARK_COLUMNS, NO_MARK, Mark, refusal

log = logging.getLogger(__name__)

PAGE_CACHE_KIB = 32 * 1024
# A log that grew longer while the file was read is cut back to this, once it was folded.
LOG_BYTES_KEPT = 32 * 1024 * 1024

# A larger file is checked by SQLite in the background, a smaller one at the start: that takes a third of a second.
CHECKED_BEFORE_BYTES_MAX = 100_000_000


class Opened(NamedTuple):
    """An open ledger that was verified."""

    connection: apsw.Connection
    seal: Seal
    # Closes both, and drops the lock.
    files: ExitStack
    commits: int
    # How many commits are in the file without its log.
    folded: int
    mark: Mark
    # What remains to be checked.
    check: FileCheck | None


class Use(NamedTuple):
    """How to open a ledger.

    If there is none, one is created with the mark ``new``, unless that is None. If it will be ``served``, it must not
    have a mark. With ``accept_losses``, acknowledged commits may be missing, but no page may be damaged. With
    ``is_copy``, it was copied from one that is served, and SQLite's own check is left out: it takes longer than the
    others.
    """

    new: Mark | None = NO_MARK
    served: bool = True
    accept_losses: bool = False
    is_copy: bool = False


def open_ledger(path: Path, use: Use) -> Opened:
    """Open the ledger at ``path``, or create it, and verify that it is whole. Raises CannotOpenError.

    A ledger that is refused because it lacks commits or has a mark is left as it was.
    """
    load_checksums()
    # SQLite keeps the log beside the file itself, not beside a symbolic link to it.
    path = path.resolve()
    with translated_errors(path):
        refuse_unwritable(path)
        refuse_log_without_file(path)
        if use.new is None and not size_of(path):
            raise CannotOpenError(f"there is no ledger {path}")
        with ExitStack() as files:
            # The lock is dropped last.
            files.enter_context(closing(Lock(path, create=True)))
            connection = files.enter_context(closing(apsw.Connection(str(path))))
            load_digests(connection)
            # The log may belong to another file, so closing must not fold it into this one.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            return _open(connection, files, path, use)


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn apsw's errors into CannotOpenError, with the reason and what to do."""
    try:
        yield
    except apsw.BusyError:
        raise CannotOpenError(
            f"the ledger {path} is in use by another ticketd, and two cannot sell the same tickets; stop that one first"
        ) from None
    except apsw.NotADBError:
        if size_of(seal_path(path)):
            raise damaged(path, "its first page is not that of a database") from None
        raise CannotOpenError(f"{path} is not a ledger of ticketd; name another one") from None
    except apsw.FullError:
        raise CannotOpenError(f"the disk is full, and the ledger {path} cannot be opened; make room first") from None
    except apsw.CantOpenError as error:
        where = f"can it, its -wal and its -seal be written, and is {path.parent} a folder that can be written to?"
        if not path.parent.is_dir():
            where = f"there is no folder {path.parent}"
        raise CannotOpenError(f"cannot open the ledger {path}: {error}; {where}") from error
    except apsw.Error as error:
        raise CannotOpenError(
            f"cannot open the ledger {path}, its -wal or its -seal: {error}; can they be read and written?"
        ) from error


def _open(connection: apsw.Connection, files: ExitStack, path: Path, use: Use) -> Opened:
    # This affects only a database that has no pages yet.
    connection.reserve_bytes(reserve=CHECKSUM_BYTES)
    connection.pragma("locking_mode", "EXCLUSIVE")
    # A commit would write the first page of an empty file.
    connection.execute("BEGIN EXCLUSIVE; ROLLBACK")
    began = time.perf_counter()
    version = schema_version(connection, path)
    is_new = version is None
    if is_new and use.new is None:
        raise CannotOpenError(f"there is no ledger in {path}, which is empty")
    seal = files.enter_context(closing(Seal(seal_path(path))))
    commits = 0 if is_new else count_commits(connection, path)
    # A ledger that was closed in good order has no log.
    in_log = None if is_new or not size_of(log_path(path)) else _commits_in_log(connection, path, commits)
    if not is_new or seal.content.commits is not None:
        _refuse_loss(path, seal.content, commits, use.accept_losses)
    if is_new and use.new:
        # The seal comes before the ledger, so that no ledger is ever without one. The tables come before the log,
        # so that every page in the file has a checksum from the start.
        seal.renew(0)
        log.info("there is no ledger %s; creating a new one", path)
        connection.execute("BEGIN")
        connection.execute(SCHEMA)
        connection.execute(f"UPDATE ledger SET ({MARK_COLUMNS}) = (?, ?, ?)", use.new)
        connection.execute("COMMIT")
    try:
        mark = read_mark(connection)
    except UNREADABLE as error:
        raise damaged(path, error) from error
    if use.served and (refused := refusal(mark, str(path))):
        raise CannotOpenError(refused)
    make_log_durable(path)
    _configure(connection, path)
    if version and version < SCHEMA_VERSION:
        commits = migrate(connection, path, version, commits)
    folded = _fold(connection, commits)
    suspected = seal.content.verdict is not None
    check = _find_damage(connection, path, use, folded=folded == commits, suspected=suspected)
    seal.renew(commits)
    if in_log is not None:
        log.info("recovered commits=%d in %.0f ms", in_log, (time.perf_counter() - began) * 1e3)
    return Opened(connection, seal, files.pop_all(), commits, folded, mark, check)


def refuse_log_without_file(path: Path) -> None:
    """Raise CannotOpenError if there is a log, and no file that it belongs to."""
    # SQLite would delete such a log as a leftover.
    wal = log_path(path)
    if not size_of(path) and size_of(wal):
        raise CannotOpenError(
            f"the ledger {path} is missing or empty, but its log {wal} exists: put back the {path.name} that belongs"
            f" to it, or move {wal.name} and {path.name}-seal away to begin a new ledger"
        )


def count_commits(connection: apsw.Connection, path: Path) -> int:
    """Return how many commits the ledger has. Raises CannotOpenError if its log belongs to another file."""
    try:
        commits, folded = connection.execute("SELECT commits, folded FROM ledger").get
        in_file = _commits_in_file(path)
    except UNREADABLE as error:
        raise damaged(path, error) from error
    if in_file is not None and not folded <= in_file <= commits:
        raise CannotOpenError(
            f"the ledger {path} and its log do not belong together: the log has commits {folded} to {commits}, but the"
            f" file without it has {in_file}. Put back the {path.name} that belongs to {path.name}-wal; or, to go on"
            f" with the file alone, move {path.name}-wal away, and start once with --accept-losses"
        )
    return int(commits)


def _commits_in_file(path: Path) -> int | None:
    """Return how many commits the file has without its log, or None if a crash in a checkpoint tore it."""
    try:
        with closing(open_file(path)) as file:
            return int(file.execute("SELECT commits FROM ledger").get)
    except UNREADABLE:
        return None
    except apsw.SQLError:
        return -1


def _commits_in_log(connection: apsw.Connection, path: Path, commits: int) -> int:
    """Return how many commits are in the log alone. If the file is torn, these are all since it was last whole."""
    in_file = _commits_in_file(path)
    if in_file is None or in_file < 0:
        in_file = int(connection.execute("SELECT folded FROM ledger").get)
    return commits - in_file


def find_loss(seal: SealContent, commits: int) -> str | None:
    """Return a sentence about what a ledger with this many commits lacks by its seal, or None if it lacks nothing."""
    if seal.commits is None:
        return (
            f"its seal is {'damaged' if seal.damaged else 'missing'}, so nobody can tell whether it has all that was"
            " acknowledged. If only the seal was lost, no sale is missing, and a start with --accept-losses makes a new"
            " seal"
        )
    if seal.commits > commits:
        return (
            f"it lacks {seal.commits - commits} of {seal.commits} commits that were acknowledged; if you put back a"
            " backup, these came after it"
        )
    return None


def read_mark(connection: apsw.Connection) -> Mark:
    """Return the mark of a ledger."""
    [row] = connection.execute(f"SELECT {MARK_COLUMNS} FROM ledger")
    return Mark(*row)


def _refuse_loss(path: Path, seal: SealContent, commits: int, accept_losses: bool) -> None:
    loss = find_loss(seal, commits)
    if loss is None:
        return
    if not accept_losses:
        raise CannotOpenError(
            f"the ledger {path} is not whole: {loss}. Put back {path.name}, {path.name}-wal and {path.name}-seal"
            " that belong together, or start once with --accept-losses to go on with what is there"
        )
    log.warning("opening the ledger %s although %s; what missing commits sold is on sale again", path, loss)


def _configure(connection: apsw.Connection, path: Path) -> None:
    mode = connection.pragma("journal_mode", "WAL")
    if mode != "wal":
        raise CannotOpenError(f"the ledger {path} cannot have a write-ahead log (journal_mode is {mode})")
    connection.pragma("synchronous", "FULL")
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("journal_size_limit", LOG_BYTES_KEPT)
    connection.pragma("cache_size", -PAGE_CACHE_KIB)
    # However large a transaction is, nothing is written to the log before its commit.
    connection.pragma("cache_spill", False)
    connection.pragma("temp_store", "MEMORY")
    # Open the log now rather than at the first request.
    connection.execute("BEGIN IMMEDIATE; COMMIT")


def _fold(connection: apsw.Connection, commits: int) -> int:
    """Fold the log into the file, and return how many commits the file has then without its log."""
    if fold_log(connection):
        return commits
    log.warning("the disk is full: reads are served, and nothing can be sold until there is room")
    return int(connection.execute("SELECT folded FROM ledger").get)


def _find_damage(
    connection: apsw.Connection, path: Path, use: Use, *, folded: bool, suspected: bool
) -> FileCheck | None:
    """Raise CannotOpenError if anything is damaged. Returns a check that may still be done while the ledger is served.

    ``folded`` says that the whole log is in the file, and ``suspected`` that an earlier check has found damage.
    """
    try:
        # A checkpoint that had no room may have left a part of a page.
        size = size_of(path) if folded else 0
        fault = page_fault(connection, size) or next(content_faults(connection, audited=not use.served), None)
    except UNREADABLE as error:
        raise damaged(path, error) from error
    if not fault and use.is_copy:
        return None
    if not fault and use.served and not suspected and size > CHECKED_BEFORE_BYTES_MAX:
        return FileCheck(path)
    if fault := fault or first_fault(connection):
        raise damaged(path, fault)
    return None
