"""The embedded ledger: one SQLite file, one connection, held exclusively.

The loop's thread loads, decides and saves, which is computing on cached pages. Only COMMIT and the checkpoint wait for
the disk; they run in a thread of their own, without the interpreter lock, while the loop reads the next batch.

What SQLite's documentation and measurements say, and this module relies on:

- ``synchronous=FULL`` syncs the log at every commit; NORMAL loses acknowledged commits in a power cut.
- A commit that fails in fsync may or may not be there after a restart, and a later fsync may report success for pages
  that never reached the disk. So it is never tried again: LedgerFailedError, and the process ends.
- Automatic checkpoints swallow errors of the database file; explicit ones report them.
- ``locking_mode=EXCLUSIVE`` keeps a second process out. Within this process nobody but SQLite may open the file:
  closing it would drop SQLite's locks.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec
from msgspec import UNSET

from ticketd.books import Books, LedgerRequest, Needs
from ticketd.model import Booking, Event, Ticket
from ticketd.protocol import Bookings, Reply, Tickets
from ticketd.rules import decide_all
from ticketd.stores.base import EPOCH, Committed, LedgerFailedError, More, StorageFullError, nothing_more
from ticketd.stores.rows import BOOKING_COLUMNS, EVENT_COLUMNS, TICKET_COLUMNS, Rows
from ticketd.stores.sqlite_file import UNREADABLE, damaged, open_ledger, reason

T = TypeVar("T")

CHECKPOINT_PAGES = 2_000
# A machine that was asleep wakes up with its deadlines passed, and its disk has had no time either.
WAKING_SECONDS = 1.0


def _milliseconds(time: datetime) -> int:
    """Return a time as milliseconds since 1970 in UTC."""
    return round(time.timestamp() * 1_000)


def _time_of(milliseconds: int) -> datetime:
    """Return the time that so many milliseconds stand for."""
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)


_ROWS = Rows(datetime.fromisoformat, datetime.isoformat, _time_of, _milliseconds)

_SAVE_EVENT = f"""
INSERT INTO events ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, date = excluded.date, capacity = excluded.capacity,
    available = excluded.available, held = excluded.held, sold = excluded.sold, version = excluded.version,
    sold_elsewhere = excluded.sold_elsewhere, original = excluded.original
"""
_SAVE_BOOKING = f"""
INSERT INTO bookings ({BOOKING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, tickets = excluded.tickets, changes = excluded.changes
"""
_SAVE_TICKET = f"""
INSERT INTO tickets ({TICKET_COLUMNS}) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, redeemed_at = excluded.redeemed_at
"""
_DUE = "SELECT event, sum(quantity) FROM bookings WHERE state = 'held' AND expires <= ? GROUP BY event"
# All events at once: one statement for each would look through all holds that are due, again and again.
_EXPIRE = """
WITH change AS MATERIALIZED (SELECT key AS event, value AS changes FROM json_each(?))
UPDATE bookings SET state = 'expired', changes = change.changes FROM change
WHERE state = 'held' AND expires <= ? AND bookings.event = change.event
"""
_SAVE_COMMITS = "UPDATE ledger SET commits = ?, folded = ?"
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
        self._commit_seconds_max = commit_seconds_max
        self.next_expiry: datetime | None = EPOCH
        self._connection, self._seal, self._commits = open_ledger(path, accept_losses=accept_losses)
        # How many commits the file has without its log.
        self._folded = self._commits
        self._inode = _inode(path)
        self._cursor = self._connection.cursor()
        self._wal_pages = 0
        self._connection.set_wal_hook(self._note_wal_pages)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-writer")

    async def transact(self, requests: list[LedgerRequest], more: More = nothing_more) -> Committed:
        """See Store. Nothing is waited for, so there is nothing more."""
        books, replies = self._decide(requests, self._clock())
        if books.changed:
            await self._in_writer(partial(self._commit, books))
        with _reading():
            earliest = self._cursor.execute(_NEXT_EXPIRY, (_milliseconds(books.now),)).get
            self.next_expiry = None if earliest is None else _time_of(earliest)
        return Committed(replies, list(books.changed_events.values()), books.changed)

    async def read(self, request: LedgerRequest) -> Reply | None:
        """See Store."""
        books, replies = self._decide([request], EPOCH)
        if not books.changed:
            return replies[0]
        with _reading():
            self._roll_back()
        return None

    def now(self) -> datetime:
        """See Store."""
        return self._clock()

    async def events(self) -> list[Event]:
        """See Store."""
        try:
            rows = self._cursor.execute(f"SELECT {EVENT_COLUMNS} FROM events ORDER BY number")
            return [_ROWS.event_of(row) for row in rows]
        except apsw.Error as error:
            raise damaged(self._path, error) from error

    async def tidy(self) -> None:
        """See Store."""
        if self._wal_pages >= CHECKPOINT_PAGES:
            await self._in_writer(self._checkpoint)

    async def close(self) -> None:
        """See Store."""
        await self._in_writer(self._checkpoint)
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
        self._writer.shutdown()

    def _decide(self, requests: Sequence[LedgerRequest], now: datetime) -> tuple[Books, list[Reply]]:
        """Return the books and the replies, in a transaction that is left open if there is anything to commit."""
        with _reading():
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
                books = self._load(Needs(requests), now)
                replies = decide_all(books, requests)
                if books.changed:
                    self._save(books)
                else:
                    self._roll_back()
            except UNREADABLE:
                raise
            except BaseException:
                self._roll_back()
                raise
        return books, replies

    def _load(self, needs: Needs, now: datetime) -> Books:
        books = Books(self._new_id, now.replace(microsecond=now.microsecond // 1_000 * 1_000))
        books.due = dict(self._cursor.execute(_DUE, (_milliseconds(books.now),)))
        needs.events |= books.due.keys()
        if needs.tickets:
            for row in self._rows(f"SELECT {TICKET_COLUMNS} FROM tickets", needs.tickets):
                books.tickets[row[0]] = _ROWS.ticket_of(row)
            needs.bookings |= {ticket.booking for ticket in books.tickets.values()}
        if needs.bookings:
            for row in self._rows(f"SELECT {BOOKING_COLUMNS} FROM bookings", needs.bookings):
                books.bookings[row[0]] = _ROWS.booking_of(row)
            needs.events |= {booking.event for booking in books.bookings.values()}
        if needs.events:
            for row in self._rows(f"SELECT {EVENT_COLUMNS} FROM events", needs.events):
                books.events[row[0]] = _ROWS.event_of(row)
        of_bookings = [books.bookings[id].tickets for id in needs.with_tickets if id in books.bookings]
        more = {ticket for tickets in of_bookings for ticket in tickets} - books.tickets.keys()
        if more:
            for row in self._rows(f"SELECT {TICKET_COLUMNS} FROM tickets", more):
                books.tickets[row[0]] = _ROWS.ticket_of(row)
        for page in needs.pages:
            books.pages.append(self._page(page))
        return books

    def _page(self, page: Bookings | Tickets) -> list[Booking] | list[Ticket]:
        after = "" if page.after is UNSET else page.after
        if isinstance(page, Bookings):
            select = f"SELECT {BOOKING_COLUMNS} FROM bookings WHERE id > ? ORDER BY id LIMIT ?"
            return [_ROWS.booking_of(row) for row in self._cursor.execute(select, (after, page.limit))]
        select = f"SELECT {TICKET_COLUMNS} FROM tickets WHERE id > ? ORDER BY id LIMIT ?"
        return [_ROWS.ticket_of(row) for row in self._cursor.execute(select, (after, page.limit))]

    def _rows(self, select: str, ids: Collection[str]) -> apsw.Cursor:
        if len(ids) == 1:
            return self._cursor.execute(f"{select} WHERE id = ?", tuple(ids))
        wanted = msgspec.json.encode(ids).decode()
        return self._cursor.execute(f"{select} WHERE id IN (SELECT value FROM json_each(?))", (wanted,))

    def _save(self, books: Books) -> None:
        # Parents before children: the foreign keys are checked row by row.
        self._cursor.executemany(_SAVE_EVENT, map(_ROWS.of_event, books.changed_events.values()))
        self._cursor.executemany(_SAVE_BOOKING, map(_ROWS.of_booking, books.changed_bookings.values()))
        self._cursor.executemany(_SAVE_TICKET, map(_ROWS.of_ticket, books.changed_tickets.values()))
        self._cursor.execute(_SAVE_COMMITS, (self._commits + 1, self._folded))

    async def _in_writer(self, work: Callable[[], T]) -> T:
        done = asyncio.get_running_loop().run_in_executor(self._writer, work)
        for seconds in (self._commit_seconds_max, WAKING_SECONDS):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await asyncio.shield(done)
        raise LedgerFailedError(f"the disk did not answer within {self._commit_seconds_max:g} s")

    def _commit(self, books: Books) -> None:
        if _inode(self._path) != self._inode:
            raise LedgerFailedError(f"the ledger {self._path} is not there any more: put it back")
        try:
            if books.expired:
                # Ten thousand holds that ran out in the same second: it is not the loop that waits.
                changes = msgspec.json.encode({event: [change] for event, change in books.expired.items()})
                self._connection.execute(_EXPIRE, (changes.decode(), _milliseconds(books.now)))
            self._connection.execute("COMMIT")
        except apsw.FullError as error:
            self._roll_back()
            # Folding the log into the file may make room.
            self._wal_pages = CHECKPOINT_PAGES
            raise StorageFullError(f"there is no room for the ledger {self._path}: {error}") from None
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
            self._wal_pages = 0
            return
        except apsw.Error as error:
            raise LedgerFailedError(f"checkpoint failed: {error}") from error
        if moved != log:
            raise LedgerFailedError(f"checkpoint moved {moved} of {log} pages")
        self._wal_pages = 0
        self._folded = self._commits

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _note_wal_pages(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
