"""Checks the files of an embedded ledger: pages, log, seal and SQLite's own check. Changes nothing, not even on disk.

A ledger without a log is opened as immutable, under a lock that keeps daemons out. One with a log is opened for
writing, since SQLite reads a log only then; but the connection is exclusive, and neither folds nor removes the log.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import apsw

from ticketd.ledger.audit import SHOWN_MAX, Findings
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.files import (
    CHECKSUM_BYTES,
    UNREADABLE,
    journal_path,
    load_checksums,
    load_digests,
    log_path,
    opened,
    reason,
    refuse_folder,
    seal_path,
    size_of,
)
from ticketd.ledger.embedded.integrity import content_faults, open_file, structure_faults
from ticketd.ledger.embedded.lock import Lock
from ticketd.ledger.embedded.migration import schema_version
from ticketd.ledger.embedded.offline import EmbeddedReader
from ticketd.ledger.embedded.opening import (
    count_commits,
    find_loss,
    read_mark,
    refuse_log_without_file,
    translated_errors,
)
from ticketd.ledger.embedded.schema import SCHEMA_VERSION
from ticketd.ledger.embedded.seal import read_seal
from ticketd.ledger.marks import Mark

# Where things are in the header of a database, of a log, and of a page in it (https://sqlite.org/fileformat2.html).
_HEADER_BYTES = 100
_PAGE_SIZE = slice(16, 18)
_RESERVED_BYTES = 20
_LOG_HEADER_BYTES = 32
_LOG_SALTS = slice(16, 24)
_FRAME_HEADER_BYTES = 24
_FRAME_PAGE = slice(0, 4)
_FRAME_COMMITS = slice(4, 8)
_FRAME_SALTS = slice(8, 16)


@contextmanager
def examining(path: Path, findings: Findings) -> Iterator[tuple[EmbeddedReader, Mark] | None]:
    """Check the files, and return a reader of the tables and the mark, or None if they cannot be read.

    No daemon can serve the ledger before the end of the block. Raises CannotOpenError if it is served, or no ledger.
    """
    load_checksums()
    path = path.resolve()
    with translated_errors(path), ExitStack() as stack:
        connection = _connect(path, stack)
        findings.note(f"ledger: {path}, embedded, schema {SCHEMA_VERSION}")
        _check_pages(path, findings)
        try:
            mark = _check_commits(connection, path, findings)
            whole = _check_integrity(connection, findings)
        except UNREADABLE as error:
            findings.wrong("tables", f"the rest cannot be read: {reason(error)}")
            yield None
        else:
            # With such damage, misplaced rows would be reported one by one, or could not be read.
            yield (EmbeddedReader(connection, path), mark) if whole else None


def _connect(path: Path, stack: ExitStack) -> apsw.Connection:
    try:
        return _unserved(path, stack)
    except apsw.BusyError:
        raise CannotOpenError(
            f"the ledger {path} is being served; check a backup of it (ticketctl backup), or stop ticketd first"
        ) from None


def _unserved(path: Path, stack: ExitStack) -> apsw.Connection:
    refuse_folder(path)
    refuse_log_without_file(path)
    if not size_of(path):
        raise CannotOpenError(f"there is no ledger {path}")
    stack.callback(Lock(path, shared=True).close)
    if size_of(journal_path(path)):
        raise CannotOpenError(f"a crash broke off the making of the ledger {path}; start ticketd on it once")
    if size_of(log_path(path)):
        connection = stack.enter_context(closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)))
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.pragma("query_only", True)
        # Takes effect with the first read.
        connection.pragma("locking_mode", "EXCLUSIVE")
    else:
        file = stack.enter_context(opened(path, apsw.SQLITE_OPEN_MAIN_DB))
        file.xLock(apsw.SQLITE_LOCK_SHARED)
        stack.callback(file.xUnlock, apsw.SQLITE_LOCK_NONE)
        if size_of(log_path(path)):
            raise apsw.BusyError
        connection = stack.enter_context(closing(open_file(path)))
    load_digests(connection)
    try:
        version = schema_version(connection, path)
        if version is None:
            raise CannotOpenError(f"there is no ledger in {path}, which is empty")
        if version != SCHEMA_VERSION:
            raise CannotOpenError(
                f"the ledger {path} has schema {version}, and this ticketd checks schema {SCHEMA_VERSION} only; start"
                " it on the ledger, which migrates it, or check it with the ticketd that wrote it"
            )
    except UNREADABLE:
        # With a seal it is a ledger, so report what is damaged.
        if not size_of(seal_path(path)):
            raise
    return connection


def _check_pages(path: Path, findings: Findings) -> None:
    """Read every page of the file, in use or not, except those that the log replaces."""
    with opened(path, apsw.SQLITE_OPEN_MAIN_DB) as file:
        header = file.xRead(_HEADER_BYTES, 0)
        if len(header) < _HEADER_BYTES:
            findings.wrong("pages", f"{path.name} is shorter than its first page")
            return
        # 1 stands for 65,536.
        page_bytes = int.from_bytes(header[_PAGE_SIZE], "big")
        page_bytes = 1 << 16 if page_bytes == 1 else page_bytes
        if page_bytes < 512 or page_bytes & (page_bytes - 1) or header[_RESERVED_BYTES] != CHECKSUM_BYTES:
            findings.wrong("pages", f"the first page of {path.name} is not that of a ledger")
            return
        pages, rest = divmod(file.xFileSize(), page_bytes)
        if rest:
            findings.wrong("pages", f"the last page of {path.name} is not whole")
        in_log = _pages_in_log(path, page_bytes)
        for page in range(1, pages + 1):
            if page not in in_log:
                try:
                    file.xRead(page_bytes, (page - 1) * page_bytes)
                except apsw.IOError as error:
                    findings.wrong("pages", f"page {page} of {path.name}: {reason(error)}")
    findings.fact("pages", f"{pages:,} in the file, {len(in_log):,} in the log", "each has its checksum")


def _pages_in_log(path: Path, page_bytes: int) -> set[int]:
    """Return the numbers of the pages in commits of the log. A crash in a checkpoint may have torn them in the file."""
    pages: set[int] = set()
    uncommitted: set[int] = set()
    if size := size_of(log_path(path)):
        with opened(log_path(path), apsw.SQLITE_OPEN_WAL) as file:
            salts = file.xRead(_LOG_HEADER_BYTES, 0)[_LOG_SALTS] if size > _LOG_HEADER_BYTES else b""
            for start in range(_LOG_HEADER_BYTES, size - page_bytes, _FRAME_HEADER_BYTES + page_bytes):
                frame = file.xRead(_FRAME_HEADER_BYTES, start)
                if frame[_FRAME_SALTS] != salts:
                    break
                uncommitted.add(int.from_bytes(frame[_FRAME_PAGE], "big"))
                if any(frame[_FRAME_COMMITS]):
                    pages |= uncommitted
                    uncommitted.clear()
    return pages


def _check_commits(connection: apsw.Connection, path: Path, findings: Findings) -> Mark:
    mark = read_mark(connection)
    try:
        commits = count_commits(connection, path)
    except CannotOpenError as error:
        findings.wrong("seal", str(error))
    else:
        seal = read_seal(seal_path(path))
        if seal.verdict:
            findings.note(f"seal: ticketd found damage while it served the ledger: {seal.verdict}")
        if loss := find_loss(seal, commits):
            findings.lack("seal", max(0, (seal.commits or 0) - commits), f"the ledger {path}: {loss}")
        findings.fact(
            "seal", f"{seal.commits or 0:,} commits acknowledged, {commits:,} in the ledger", "none is missing"
        )
    return mark


def _check_integrity(connection: apsw.Connection, findings: Findings) -> bool:
    faults = [*structure_faults(connection, SHOWN_MAX), *content_faults(connection, audited=True)]
    for fault in faults:
        findings.wrong("integrity", fault)
    findings.fact("integrity", "SQLite's own check", "ok")
    return not faults
