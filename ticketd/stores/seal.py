"""The seal: how many commits of a ledger were acknowledged, in a small file beside it.

SQLite takes a log that is damaged for one that a power cut ended: it serves what stands before the damage, and does
not know that there was more. The seal knows. It is written after the sync of each commit, without a sync of its own.
So it never tells of a commit that is not durable; it is exact after kill -9, and a power cut may set it back a little.
"""

import re
import zlib
from pathlib import Path

import apsw

_LINE = re.compile(rb"ticketd seal: (\d{20}) commits acknowledged, check ([0-9a-f]{8})\n")
# There is room for two lines, each in a sector of its own, and they are written by turns: what a crash may tear is
# never the only one.
_SECTOR_BYTES = 512
_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_SUPER_JOURNAL


class Seal:
    """The seal at ``path``, a file that is made if it is missing. Raises what apsw raises.

    ``commits`` is what it said when it was opened: None if it was missing, or is damaged, which ``damaged`` tells. It
    is read and written as SQLite does with its files, so that it stands and falls with the same disk.
    """

    def __init__(self, path: Path) -> None:
        self._file = apsw.VFSFile("", str(path), [_FLAGS, 0])
        try:
            size = min(self._file.xFileSize(), 2 * _SECTOR_BYTES)
            data = self._file.xRead(size, 0) if size else b""
        except BaseException:
            self.close()
            raise
        self.commits = max(_numbers(data), default=None)
        self.damaged = bool(data) and self.commits is None

    def renew(self, commits: int) -> None:
        """Say so and nothing else, and make that, and the name of the file in its folder, durable."""
        self._write(commits, 0)
        self._write(commits, _SECTOR_BYTES)
        self._file.xSync(apsw.SQLITE_SYNC_NORMAL)

    def write(self, commits: int) -> None:
        """Say that so many commits are durable."""
        self._write(commits, commits % 2 * _SECTOR_BYTES)

    def _write(self, commits: int, offset: int) -> None:
        number = b"%020d" % commits
        line = b"ticketd seal: %b commits acknowledged, check %08x\n" % (number, zlib.crc32(number))
        self._file.xWrite(line, offset)

    def close(self) -> None:
        """Let go of the file."""
        self._file.xClose()


def _numbers(data: bytes) -> list[int]:
    """Return what the lines say that are whole."""
    lines = (_LINE.match(data, start) for start in (0, _SECTOR_BYTES))
    return [int(line[1]) for line in lines if line and zlib.crc32(line[1]) == int(line[2], 16)]
