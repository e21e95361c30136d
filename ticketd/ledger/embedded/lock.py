"""The lock on the file of a ledger. It stays until it is closed or the process ends.

SQLite's own locks belong to the process: they are gone as soon as anything in it closes the file, such as a reader of
an events file that is a link to the ledger. This one belongs to an open file, like a lock of flock(2). But flock(2)
locks a whole file, and on a file system that turns that into locks on bytes, it would conflict with SQLite's own. So
this is a lock on one byte that SQLite does not use (``F_OFD_SETLK``).
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

import apsw

from ticketd.ledger.base import CannotOpenError

# SQLite locks some bytes at 1 << 30, and its files are shorter than this.
_BYTE = 1 << 62


class Lock:
    """The lock on the file at ``path``. Raises apsw.BusyError if another process, or this one, has it.

    With ``create``, a missing file is created, for its owner only. Several processes may have it if all of them ask for
    it ``shared``.
    """

    def __init__(self, path: Path, *, create: bool = False, shared: bool = False) -> None:
        flags = os.O_RDONLY if shared else os.O_RDWR
        try:
            self._file: int | None = os.open(path, flags | (os.O_CREAT if create else 0), 0o600)
        except OSError:
            # SQLite cannot open it either, and says why.
            self._file = None
            return
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, _BYTE, 1, 0))
        except OSError as error:
            self.close()
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise apsw.BusyError from None
            raise CannotOpenError(f"cannot lock the ledger {path}: {error.strerror}; put it on a local disk") from None

    def close(self) -> None:
        """Drop the lock. SQLite must have closed the file before: this drops its locks too."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.close()
