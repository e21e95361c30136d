"""Writes a backup of a ledger that is served: a copy of its files, opened and checked as a start does.

1. The log is copied, and then the file, as they are. Meanwhile commits go to the log only: nothing may be folded into
   the file. So the copy is what a daemon leaves that is killed when the log has been copied.
2. The copy is opened as after a kill: its log is folded into it, every page is read, and the contents must agree. It
   gets a seal of its own. Only SQLite's own check is left to ``ticketd check``: it takes longer than all the rest.
3. It gets its name. So a backup that has a name is whole and durable.

The copying and the checking are done in a thread, mostly by SQLite, which lets Python run meanwhile. Whatever fails,
nothing of the backup is left.
"""

import asyncio
import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from ticketd.config import RETRY_AFTER_SECONDS
from ticketd.disk_thread import DiskThread
from ticketd.errors import TicketError
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.files import COPY_BYTES, files_of, fold_log, log_path, opened, reason, seal_path, size_of
from ticketd.ledger.embedded.integrity import open_file
from ticketd.ledger.embedded.opening import Use, open_ledger
from ticketd.ledger.embedded.seal import Seal
from ticketd.wire.replies import BackupReply

log = logging.getLogger(__name__)

FOLDER = "backups"
# After so many pages, what was copied is synced, so that the sync of a commit never waits for much of it.
PAGES_AT_ONCE = 256


class Backup:
    """A backup called ``name`` of the ledger at ``path``, which has no links in it. It begins when this is made.

    ``commits`` is how many commits were acknowledged: the backup has at least these. If the log ``is_folded`` into the
    file, it is not copied. Used on the loop.
    """

    def __init__(self, path: Path, name: str, commits: int, *, is_folded: bool) -> None:
        self._path, self._name, self._commits = path, name, commits
        self._is_folded = is_folded
        self._target = path.parent / FOLDER / f"{name}.db"
        # One at a time is written of a ledger. What a killed daemon left is replaced.
        self._part = self._target.with_name(f"{path.name}.part")
        self._part_log = self._target.with_name(f"{path.name}.part-log")
        self._began = time.monotonic()
        self._interruption: TicketError | None = None
        self._naming = threading.Lock()
        # Whether the file of the ledger must not change.
        self.copies = True
        self.ended = False
        self._thread = DiskThread("backup")
        self._copied = self._thread.do(self._copy)

    async def end(self) -> BackupReply:
        """Return when it has its name.

        Raises TicketError (backup_exists, backup_failed, storage_full, or that of the interruption).
        """
        try:
            await self._copied
            self.copies = False
            reply = await self._thread.do(self._finish)
        finally:
            self.copies, self.ended = False, True
            self._thread.close()
        log.info(
            "backup name=%s commits=%d bytes=%d seconds=%.3f", reply.name, reply.commits, reply.bytes, reply.seconds
        )
        return reply

    def interrupt(self, error: TicketError) -> None:
        """Let ``end`` raise the error, unless everything was copied. From now on the file may change."""
        if self.copies:
            self._interruption = self._interruption or error

    async def stop(self, error: TicketError) -> None:
        """End it before the process ends. Does not wait for the check of what was copied."""
        self._interruption = self._interruption or error
        await asyncio.wait([self._copied])
        # It has its name, or never gets it.
        with self._naming, suppress(OSError):
            self._remove_part()

    def _copy(self) -> None:
        """Copy the files. Runs in the thread."""
        with self._cleared_up():
            self._target.parent.mkdir(mode=0o700, exist_ok=True)
            self._refuse_existing()
            self._remove_part()
            self._check_room()
            os.close(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            if not self._is_folded:
                self._copy_log()
            self._copy_file()
            self._raise_interruption()

    def _copy_log(self) -> None:
        source = log_path(self._path)
        size = size_of(source)
        with (
            opened(source, apsw.SQLITE_OPEN_WAL) as file,
            opened(self._part_log, apsw.SQLITE_OPEN_WAL, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) as copy,
        ):
            for start in range(0, size, COPY_BYTES):
                copy.xWrite(file.xRead(min(COPY_BYTES, size - start), start), start)
                self._raise_interruption()
        _sync(self._part_log)

    def _copy_file(self) -> None:
        """Copy the file without its log. Each page is verified by its checksum."""
        with closing(open_file(self._path)) as file, closing(apsw.Connection(str(self._part))) as copy:
            # Nobody needs half of it.
            copy.pragma("journal_mode", "OFF")
            copy.pragma("synchronous", "OFF")
            copy.pragma("cache_size", PAGES_AT_ONCE)
            with copy.backup("main", file, "main") as backup:
                while not backup.step(PAGES_AT_ONCE):
                    began = time.monotonic()
                    _sync(self._part)
                    # Leave as much time of the disk to commits.
                    time.sleep(time.monotonic() - began)
                    self._raise_interruption()
        _sync(self._part)

    def _fold_log(self) -> None:
        """Fold the copy of the log into that of the file."""
        self._part_log.rename(log_path(self._part))
        with closing(apsw.Connection(str(self._part))) as copy:
            copy.pragma("locking_mode", "EXCLUSIVE")
            copy.execute("BEGIN IMMEDIATE; COMMIT")
            if not fold_log(copy):
                raise apsw.FullError

    def _finish(self) -> BackupReply:
        """Check what was copied, and give it its name. Runs in the thread."""
        with self._cleared_up():
            if not self._is_folded:
                self._fold_log()
            with closing(Seal(seal_path(self._part))) as seal:
                seal.renew(self._commits)
            copy = open_ledger(self._part, Use(new=None, is_copy=True))
            # Closing removes the log, which has nothing in it.
            copy.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            copy.files.close()
            size = self._part.stat().st_size
            with self._naming:
                self._raise_interruption()
                self._refuse_existing()
                # The seal first, so that no ledger is ever without one.
                seal_path(self._part).rename(seal_path(self._target))
                self._part.rename(self._target)
            for folder in (self._target.parent, self._path.parent):
                _sync(folder)
        return BackupReply(self._name, copy.commits, size, round(time.monotonic() - self._began, 3))

    def _refuse_existing(self) -> None:
        if os.path.lexists(self._target):
            raise TicketError("backup_exists", f"there is a backup {self._name}, which is whole; choose another name")

    def _check_room(self) -> None:
        needed = size_of(self._path) + size_of(log_path(self._path))
        file_system = os.statvfs(self._target.parent)
        free = file_system.f_bavail * file_system.f_frsize
        if free < 2 * needed:
            raise TicketError(
                "storage_full",
                f"the backup needs {needed / 1e6:,.1f} MB, and must leave as much for the sale, but"
                f" {free / 1e6:,.1f} MB are free; nothing was kept, make room",
                retry_after=RETRY_AFTER_SECONDS,
            )

    def _raise_interruption(self) -> None:
        if self._interruption:
            raise self._interruption from None

    def _remove_part(self) -> None:
        for file in (*files_of(self._part), self._part_log):
            file.unlink(missing_ok=True)

    @contextmanager
    def _cleared_up(self) -> Iterator[None]:
        """After an error, remove what was written, and raise TicketError for whatever is not a bug."""
        try:
            yield
        except Exception as error:
            with suppress(OSError):
                self._remove_part()
            # What it was about to find in half a copy is no damage.
            self._raise_interruption()
            if isinstance(error, OSError | apsw.Error | CannotOpenError):
                raise self._refusal(error) from error
            raise

    def _refusal(self, error: Exception) -> TicketError:
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.ENOSPC or any(isinstance(each, apsw.FullError) for each in (error, error.__context__)):
            message = f"there is no room for the backup {self._name}; nothing was kept, make room"
            return TicketError("storage_full", message, retry_after=RETRY_AFTER_SECONDS)
        if number is not None:
            why = os.strerror(number)
        else:
            why = reason(error) if isinstance(error, apsw.Error) else f"the copy is not whole: {error}"
        return TicketError("backup_failed", f"the backup {self._target} cannot be written ({why}); nothing was kept")


def _sync(path: Path) -> None:
    """Make what is in a file durable, or the names in a folder. A VFSFile would stop all of Python meanwhile."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
