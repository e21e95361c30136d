"""Owns the seal: a small file beside the ledger with the number of commits that were acknowledged.

SQLite cannot distinguish a damaged log from one that a power cut ended: it serves the commits before the damage. The
seal shows that there were more. It is written after the sync of each commit, without a sync of its own. So it never
counts a commit that is not durable; it is exact after kill -9, and a power cut may set it back a little.
"""

import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import apsw

from ticketd.ledger.embedded.files import opened

_LINE = re.compile(rb"ticketd seal: (\d{20}) commits acknowledged, check ([0-9a-f]{8})\n")
# The file has room for two lines, each in a sector of its own. They are written alternately, so a crash can tear
# only one of them.
_SECTOR_BYTES = 512
# A third sector is for damage that a check finds while the ledger is served. The next start checks everything before it
# serves: the damage may have been an error of the disk that has passed.
_VERDICT = re.compile(rb"ticketd seal: damaged: ([^\n]*)\n")
_VERDICT_BYTES_MAX = 400
# SQLite syncs the folder along with a new journal, so the name of the file is durable too.
_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_SUPER_JOURNAL


class SealContent(NamedTuple):
    """The count, None if the seal is missing or ``damaged``; and what an earlier check found wrong with the ledger."""

    commits: int | None
    damaged: bool
    verdict: str | None


class Seal:
    """The seal at ``path``, which is created if it is missing. Its methods raise apsw.Error.

    ``content`` is what it had when it was opened. It is read and written through SQLite's VFS, like the ledger.
    """

    def __init__(self, path: Path) -> None:
        # For its owner only, like the ledger itself.
        mask = os.umask(0o077)
        try:
            self._file = apsw.VFSFile("", str(path), [_FLAGS, 0])
        finally:
            os.umask(mask)
        try:
            self.content = _read(self._file)
        except BaseException:
            self.close()
            raise

    def renew(self, commits: int) -> None:
        """Write the count to both sectors, forget the verdict, and sync the file and its entry in the folder."""
        self._write(commits, 0)
        self._write(commits, _SECTOR_BYTES)
        if self.content.verdict:
            self._file.xTruncate(2 * _SECTOR_BYTES)
        self._file.xSync(apsw.SQLITE_SYNC_NORMAL)

    def write(self, commits: int) -> None:
        """Write the count to one sector, without a sync. The commits must be durable already."""
        self._write(commits, commits % 2 * _SECTOR_BYTES)

    def note_damage(self, verdict: str) -> None:
        """Write down durably what is wrong with the ledger, for the next start."""
        line = b"ticketd seal: damaged: %b\n" % verdict.encode()[:_VERDICT_BYTES_MAX]
        self._file.xWrite(line, 2 * _SECTOR_BYTES)
        self._file.xSync(apsw.SQLITE_SYNC_NORMAL)

    def _write(self, commits: int, offset: int) -> None:
        number = b"%020d" % commits
        line = b"ticketd seal: %b commits acknowledged, check %08x\n" % (number, zlib.crc32(number))
        self._file.xWrite(line, offset)

    def close(self) -> None:
        """Close the file."""
        self._file.xClose()


def read_seal(path: Path) -> SealContent:
    """Return what is in the seal at ``path``."""
    try:
        with opened(path, apsw.SQLITE_OPEN_SUPER_JOURNAL) as file:
            return _read(file)
    except apsw.CantOpenError:
        return SealContent(None, damaged=False, verdict=None)


def _read(file: apsw.VFSFile) -> SealContent:
    size = min(file.xFileSize(), 3 * _SECTOR_BYTES)
    data = file.xRead(size, 0) if size else b""
    commits = max(_counts(data), default=None)
    verdict = _VERDICT.match(data, 2 * _SECTOR_BYTES)
    return SealContent(commits, bool(data) and commits is None, verdict and verdict[1].decode(errors="replace"))


def _counts(data: bytes) -> list[int]:
    """Return the counts in those lines that are intact."""
    lines = (_LINE.match(data, start) for start in (0, _SECTOR_BYTES))
    return [int(line[1]) for line in lines if line and zlib.crc32(line[1]) == int(line[2], 16)]
