"""The embedded ledger: one SQLite file, one connection, held exclusively.

The loop's thread loads and decides, which is computing on cached pages. A batch is saved and committed as one statement
in a thread of its own, without the interpreter's lock, while the loop reads the next batch; so is the checkpoint.

What SQLite's documentation and measurements say, and this module relies on:

- ``synchronous=FULL`` syncs the log at every commit; NORMAL loses acknowledged commits in a power cut.
- A commit that fails in fsync may or may not be there after a restart, and a later fsync may report success for pages
  that never reached the disk. So it is never tried again: LedgerFailedError, and the process ends.
- Automatic checkpoints swallow errors of the database file; explicit ones report them.
- ``locking_mode=EXCLUSIVE`` keeps a second process out. Within this process nobody but SQLite may open the file:
  closing it would drop SQLite's locks.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec import UNSET

from ticketd.books import Books, LedgerRequest, Needs
from ticketd.model import Booking, Event, Ticket
from ticketd.protocol import Bookings, Reply, Tickets
from ticketd.rules import decide_all
from ticketd.stores.base import EPOCH, Committed, LedgerFailedError, More, StorageFullError, nothing_more
from ticketd.stores.disk_thread import DiskThread
from ticketd.stores.rows import BOOKING_COLUMNS, EVENT_COLUMNS, TICKET_COLUMNS
from ticketd.stores.sqlite_file import UNREADABLE, damaged, open_ledger, reason
from ticketd.stores.sqlite_save import ROWS, SAVE, SETUP, milliseconds, parameters, time_of

CHECKPOINT_PAGES = 2_000
# SQLite counts them with 32 bits.
PAGES_COUNTED_MAX = 1 << 32

_DUE = "SELECT event, sum(quantity) FROM bookings WHERE state = 'held' AND expires <= ? GROUP BY event"
_NEXT_EXPIRY = "SELECT min(expires) FROM bookings WHERE state = 'held' AND expires > ?"


@contextmanager
def _reading() -> Iterator[None]:
    """Nothing is certain about a disk that cannot be read. Raises LedgerFailedError."""
    try:
        yield
    except UNREADABLE as error:
        raise LedgerFailedError(f"the ledger cannot be read: {reason(error)}") from error


def utc_now() -> datetime:
    """Return the time of the system's clock."""
    return datetime.now(UTC)


class SqliteStore:
    """The ledger in the file at ``path``, which is created if it does not exist. Raises CannotOpenError.

    ``commit_seconds_max`` is how long the disk may take for a commit or a checkpoint; ``clock`` tells the time in UTC.
    With ``accept_losses`` a ledger is opened that lacks commits which were acknowledged.
    """

    commits_at_once = 1

    def __init__(
        self,
        path: Path,
        new_id: Callable[[], str],
        commit_seconds_max: float,
        clock: Callable[[], datetime] = utc_now,
        *,
        accept_losses: bool = False,
    ) -> None:
        self._path = path
        self._new_id = new_id
        self._clock = clock
        self.next_expiry: datetime | None = EPOCH
        self._connection, self._seal, self._commits = open_ledger(path, accept_losses=accept_losses)
        # How many commits the file has without its log.
        self._folded = self._commits
        self._inode = _inode(path)
        self._cursor = self._connection.cursor()
        self._cursor.execute(SETUP)
        # All of them, as they are committed: nobody else writes to the file.
        self._events = {event.id: event for event in self._read_events()}
        self._disk = DiskThread(commit_seconds_max)
        self._fold_soon = False
        self._pages_before = self._pages_written()

    async def transact(self, requests: list[LedgerRequest], more: More = nothing_more) -> Committed:
        """See Store. Nothing is waited for, so there is nothing more."""
        books, replies = self._decide(requests, self._clock())
        if books.changed:
            await self._disk.do(partial(self._commit, parameters(books, self._commits + 1, self._folded)))
            self._events |= books.changed_events
        if books.due or self.next_expiry == EPOCH or any(map(_expires, books.changed_bookings.values())):
            with _reading():
                earliest = self._cursor.execute(_NEXT_EXPIRY, (milliseconds(books.now),)).get
            self.next_expiry = None if earliest is None else time_of(earliest)
        return Committed(replies, list(books.changed_events.values()), books.changed)

    async def read(self, request: LedgerRequest) -> Reply | None:
        """See Store."""
        books, replies = self._decide([request], EPOCH)
        return None if books.changed else replies[0]

    def now(self) -> datetime:
        """See Store."""
        return self._clock()

    async def events(self) -> list[Event]:
        """See Store."""
        return list(self._events.values())

    async def tidy(self) -> None:
        """See Store."""
        pages_in_log = (self._pages_written() - self._pages_before) % PAGES_COUNTED_MAX
        if self._fold_soon or pages_in_log >= CHECKPOINT_PAGES:
            await self._disk.do(self._checkpoint)

    async def close(self) -> None:
        """See Store."""
        await self._disk.do(self._checkpoint)
        try:
            with suppress(apsw.FullError):
                self._seal.renew(self._commits)
            if self._folded == self._commits:
                # Closing may remove the log: all of it is in the file.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            self._connection.close()
            self._seal.close()
        except apsw.Error as error:
            raise LedgerFailedError(f"the ledger cannot be closed: {error}") from error
        self._disk.close()

    def _decide(self, requests: Sequence[LedgerRequest], now: datetime) -> tuple[Books, list[Reply]]:
        with _reading():
            books = self._load(Needs(requests), now)
        return books, decide_all(books, requests)

    def _load(self, needs: Needs, now: datetime) -> Books:
        books = Books(self._new_id, now.replace(microsecond=now.microsecond // 1_000 * 1_000))
        if self.next_expiry is not None and self.next_expiry <= books.now:
            books.due = dict(self._cursor.execute(_DUE, (milliseconds(books.now),)))
            needs.events |= books.due.keys()
        if needs.tickets:
            for row in self._rows(f"SELECT {TICKET_COLUMNS} FROM tickets", needs.tickets):
                books.tickets[row[0]] = ROWS.ticket_of(row)
            needs.bookings |= {ticket.booking for ticket in books.tickets.values()}
        if needs.bookings:
            for row in self._rows(f"SELECT {BOOKING_COLUMNS} FROM bookings", needs.bookings):
                books.bookings[row[0]] = ROWS.booking_of(row)
            needs.events |= {booking.event for booking in books.bookings.values()}
        for event_id in needs.events & self._events.keys():
            books.events[event_id] = copy(self._events[event_id])
        of_bookings = [books.bookings[id].tickets for id in needs.with_tickets if id in books.bookings]
        more = {ticket for tickets in of_bookings for ticket in tickets} - books.tickets.keys()
        if more:
            for row in self._rows(f"SELECT {TICKET_COLUMNS} FROM tickets", more):
                books.tickets[row[0]] = ROWS.ticket_of(row)
        for page in needs.pages:
            books.pages.append(self._page(page))
        return books

    def _page(self, page: Bookings | Tickets) -> list[Booking] | list[Ticket]:
        after = "" if page.after is UNSET else page.after
        if isinstance(page, Bookings):
            select = f"SELECT {BOOKING_COLUMNS} FROM bookings WHERE id > ? ORDER BY id LIMIT ?"
            return [ROWS.booking_of(row) for row in self._cursor.execute(select, (after, page.limit))]
        select = f"SELECT {TICKET_COLUMNS} FROM tickets WHERE id > ? ORDER BY id LIMIT ?"
        return [ROWS.ticket_of(row) for row in self._cursor.execute(select, (after, page.limit))]

    def _rows(self, select: str, ids: Collection[str]) -> apsw.Cursor:
        if len(ids) == 1:
            return self._cursor.execute(f"{select} WHERE id = ?", tuple(ids))
        wanted = msgspec.json.encode(ids).decode()
        return self._cursor.execute(f"{select} WHERE id IN (SELECT value FROM json_each(?))", (wanted,))

    def _read_events(self) -> list[Event]:
        try:
            rows = self._cursor.execute(f"SELECT {EVENT_COLUMNS} FROM events ORDER BY number")
            return list(map(ROWS.event_of, rows))
        except apsw.Error as error:
            raise damaged(self._path, error) from error

    def _commit(self, batch: tuple[Any, ...]) -> None:
        if _inode(self._path) != self._inode:
            raise LedgerFailedError(f"the ledger {self._path} is not there any more: put it back")
        try:
            self._cursor.execute(SAVE, batch)
        except apsw.FullError as error:
            # Folding the log into the file may make room.
            self._fold_soon = True
            raise StorageFullError(f"there is no room for the ledger {self._path}: {error}") from None
        except apsw.ConstraintError:
            # A bug that the ledger has not let through. Nothing is done.
            raise
        except apsw.Error as error:
            raise LedgerFailedError(f"COMMIT failed: {error}") from error
        self._commits += 1
        try:
            self._seal.write(self._commits)
        except apsw.FullError:
            # It is done, and the next commit seals it too.
            return
        except apsw.Error as error:
            raise LedgerFailedError(f"the seal cannot be written: {error}") from error

    def _checkpoint(self) -> None:
        try:
            log, moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.FullError:
            # The log keeps what the database file has no room for. The next commit, done or not, asks for another try;
            # who only reads meanwhile does not wait for one.
            self._note_checkpoint()
            return
        except apsw.Error as error:
            raise LedgerFailedError(f"checkpoint failed: {error}") from error
        if moved != log:
            raise LedgerFailedError(f"checkpoint moved {moved} of {log} pages")
        self._note_checkpoint()
        self._folded = self._commits

    def _note_checkpoint(self) -> None:
        self._fold_soon = False
        self._pages_before = self._pages_written()

    def _pages_written(self) -> int:
        """Return how many pages have been written to the log so far, modulo PAGES_COUNTED_MAX."""
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]


def _expires(booking: Booking) -> bool:
    return booking.expires is not None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
