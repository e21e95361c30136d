"""Owns the open database: what is written to it, its log and its seal. All of that runs in the writer thread.

When a step fails:

- No room for the commit: SQLite rolls it back, so nothing was done (StorageFullError). The next commit first folds the
  log into the file (a checkpoint), which may make room.
- A constraint refuses the changes: that is a bug. SQLite rolls back, and the error is reported as it is.
- No room for the seal: the commit is durable, and reported as such. The next commit writes the seal too.
- One of the files is missing or was replaced: everything acknowledged is in the files that are still open. The log is
  folded into the database file, even if that was moved, and then LedgerFailedError.
- Any other error, or no answer in time: LedgerFailedError. The process ends, and the next start reads what is durable.

Nothing is reported before its sync, so nothing acknowledged is lost. That depends on these facts about SQLite and Linux
(https://sqlite.org/pragma.html, https://sqlite.org/wal.html, https://sqlite.org/howtocorrupt.html, and tests):

- ``synchronous=FULL`` syncs the log at every commit; NORMAL loses acknowledged commits in a power cut.
- A commit that fails in fsync may or may not be there after a restart, and a later fsync may report success for pages
  that never reached the disk (see ``files.make_log_durable``). So it is never tried again.
- Automatic checkpoints swallow errors of the database file; explicit ones report them.
- ``locking_mode=EXCLUSIVE`` keeps other processes out, until this one closes the file by another way than SQLite. So
  there is a second lock, which stays (see ``lock``).
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from ticketd.config import RETRY_AFTER_SECONDS
from ticketd.errors import Code, TicketError
from ticketd.ledger.base import LedgerFailedError, StorageFullError
from ticketd.ledger.embedded.backup import Backup
from ticketd.ledger.embedded.files import damaged, fold_log, identity_of, log_path, seal_path
from ticketd.ledger.embedded.opening import Opened
from ticketd.ledger.embedded.save import SAVE, SETUP, parameters
from ticketd.ledger.embedded.seal import Seal
from ticketd.rules.working_set import WorkingSet

log = logging.getLogger(__name__)

# A checkpoint is due after this many pages were written to the log.
CHECKPOINT_PAGES = 2_000
PAGES_COUNTED_MAX = 1 << 32  # SQLite's counter of written pages has 32 bits.
# While the file is checked or copied it must not change, so the log grows. Past this many pages, 200 MB, the check is
# left to the next start, and a backup is given up.
LOG_PAGES_MAX = 50_000
# The times of a folder are at least as exact as this.
FOLDER_NANOSECONDS = 100_000_000


class Database:
    """The database at ``path``, opened and verified. Raises apsw.Error."""

    def __init__(self, path: Path, opened: Opened) -> None:
        self._path = path
        self._connection, self._seal, self._files = opened.connection, opened.seal, opened.files
        self._commits, self._folded = opened.commits, opened.folded
        # None if all is checked.
        self._file_check = opened.check
        self._backup: Backup | None = None
        self._damage: str | None = None
        real = path.resolve()
        self._identities = {str(file): identity_of(file) for file in (path, log_path(real), seal_path(real))}
        self._folder = str(real.parent)
        # When the folder had changed last, in nanoseconds, when the files were looked at.
        self._looked_at: int | None = None
        self._cursor = self._connection.cursor()
        self._cursor.execute(SETUP)
        # See the column in ``schema``.
        self._total = self._cursor.execute("SELECT total FROM ledger").get
        self.checkpoint_due = False
        self._pages_at_checkpoint = self._pages_written()

    def work_for(self, working_set: WorkingSet, added: int) -> Callable[[], None]:
        """Return the work that makes the changes of a batch durable; ``added`` is what they add to the total.

        Raises LedgerFailedError if ``check`` has found damage.
        """
        if self._damage:
            raise LedgerFailedError(self._damage)
        if missing := self._missing():
            self._let_file_change("busy", "a file of the ledger is missing")
            return partial(self._end_without, missing)
        pages = (self._pages_written() - self._pages_at_checkpoint) % PAGES_COUNTED_MAX
        is_read = self._file_check or (self._backup and self._backup.copies)
        checkpoint = self.checkpoint_due or pages >= (LOG_PAGES_MAX if is_read else CHECKPOINT_PAGES)
        if checkpoint and is_read:
            if self.checkpoint_due:
                self._let_file_change("storage_full", "the disk is full")
            else:
                self._let_file_change("busy", "too much was sold meanwhile")
        return partial(self._commit, parameters(working_set, self._commits + 1, self._total + added), checkpoint)

    def _let_file_change(self, code: Code, why: str) -> None:
        """Interrupt whatever reads the file."""
        if self._file_check:
            log.warning("the rest of the check of %s is left to the next start: %s", self._path, why)
            self._file_check.interrupt()
        if self._backup:
            message = f"the backup was given up: {why}; nothing was kept, try again later"
            self._backup.interrupt(TicketError(code, message, retry_after=RETRY_AFTER_SECONDS))

    def begin_backup(self, name: str) -> Backup:
        """Begin a backup with this name, of all commits so far. Call it between commits, and await its ``end``.

        Raises TicketError (busy) while another one is being written.
        """
        if self._backup and not self._backup.ended:
            raise TicketError(
                "busy", "another backup is being written; try again when it is done", retry_after=RETRY_AFTER_SECONDS
            )
        self._backup = Backup(self._path.resolve(), name, self._commits, is_folded=self._folded == self._commits)
        return self._backup

    def _missing(self) -> list[str]:
        """Return the files that are not there any more. They are looked at only if their folder has changed."""
        try:
            # Path.stat is slower, and every commit calls this.
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116
        except OSError:
            changed = 0
        if changed == self._looked_at:
            return []
        # Its time is not exact: it may change again, and show the same.
        if changed and time.time_ns() - changed > FOLDER_NANOSECONDS:
            self._looked_at = changed
        return [file for file, identity in self._identities.items() if identity_of(file) != identity]

    async def check(self) -> None:
        """Check what the start did not. Raises LedgerFailedError if it is damaged."""
        if not self._file_check:
            return
        fault = await self._file_check.run()
        self._file_check = None
        if fault:
            self._damage = str(damaged(self._path, fault))
            # If there is no room to write that down, the next start finds the damage again.
            with suppress(apsw.Error):
                await asyncio.to_thread(self._seal.note_damage, fault)
            raise LedgerFailedError(self._damage)

    async def stop_reading(self) -> None:
        """End the check and the backup that are still running."""
        if self._file_check:
            await self._file_check.stop()
        if self._backup and not self._backup.ended:
            await self._backup.stop(
                TicketError("shutting_down", "the daemon is ending; nothing of the backup was kept")
            )

    def close(self) -> None:
        """Fold the log into the file and close both. Runs in the writer thread."""
        self._checkpoint()
        try:
            # Without room, the seal stays as it is: it never counts too many commits.
            with suppress(apsw.FullError):
                self._seal.renew(self._commits)
            if self._folded == self._commits:
                # Closing may remove the log: all of it is in the file.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            self._files.close()
        except apsw.Error as error:
            raise LedgerFailedError(f"the ledger cannot be closed: {error}") from error

    def _commit(self, batch: tuple[Any, ...], checkpoint: bool) -> None:
        """Save, commit, sync and seal a batch. Runs in the writer thread."""
        if checkpoint:
            self._checkpoint()
        try:
            self._cursor.execute(SAVE, (*batch, self._folded))
        except apsw.FullError as error:
            self.checkpoint_due = True
            raise StorageFullError(f"there is no room for the ledger {self._path}: {error}") from None
        except apsw.ConstraintError:
            raise
        except apsw.Error as error:
            raise LedgerFailedError(f"COMMIT failed: {error}") from error
        self._commits += 1
        self._total = batch[-1]
        try:
            self._seal.write(self._commits)
        except apsw.FullError:
            # The commit is durable all the same.
            return
        except apsw.Error as error:
            raise LedgerFailedError(f"the seal cannot be written: {error}") from error

    def _end_without(self, missing: list[str]) -> None:
        """Save what is still in the log, and fail, since files are missing. Runs in the writer thread."""
        self._checkpoint()
        seal = seal_path(self._path.resolve())
        if missing == [str(seal)]:
            Seal(seal).renew(self._commits)
        saved = "Everything acknowledged is in the ledger file: if that was moved, put it back, and start ticketd again"
        if self._folded < self._commits:
            saved = (
                f"There is no room to save {self._commits - self._folded} commits: put the files back, and make room"
            )
        raise LedgerFailedError(f"missing or replaced: {', '.join(missing)}. {saved}")

    def _checkpoint(self) -> None:
        """Fold the log into the file. Runs in the writer thread."""
        try:
            if fold_log(self._connection):
                self._folded = self._commits
        except apsw.Error as error:
            raise LedgerFailedError(f"checkpoint failed: {error}") from error
        # Without room too: the next one is tried when it is due again, not at every commit.
        self.checkpoint_due = False
        self._pages_at_checkpoint = self._pages_written()

    def _pages_written(self) -> int:
        """Return how many pages have been written to the log so far, modulo PAGES_COUNTED_MAX."""
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]
