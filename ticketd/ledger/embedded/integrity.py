"""Finds damage that checksums do not show: pages in the wrong place, and old versions of pages.

A checksum covers the content of a page, but neither its place nor its age. Two checks find the rest:

- SQLite's own check finds pages in the wrong place, since rows are then out of order, or missing from an index. It
  takes longer than the rest of a start, so a large file is checked in the background, while it is served.
- The sums of the content must agree. No version or booking goes back to what it was, and the id of a deleted event
  stays. So an old page has fewer rows or changes, lower versions, or more that is held, sold or waited for, and a sum
  shows it: ``total`` of the ledger, or the counts of its events. For long bookings, which continue on overflow pages,
  digests show it.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw

from ticketd.ledger.embedded.files import UNREADABLE, reason
from ticketd.ledger.embedded.schema import DIGEST, STILL_NUMBER

# How long the end of an interrupted check is awaited before it is interrupted again.
INTERRUPT_INTERVAL_SECONDS = 0.05

# How many tickets of a booking were cancelled. JSON is read only where there are some.
_CANCELLED = """CASE WHEN instr(changes, '"cancel"')
    THEN (SELECT sum(json_array_length(value, '$[4]')) FROM json_each(changes) WHERE value ->> 0 = 'cancel')
    ELSE 0 END"""
# Reads every page of all tables and indexes. SQLite's own check does not notice a booking that is in the index of holds
# but no longer held, or in that of the line but no longer waiting.
_SUMS = f"""
SELECT ledger.total, event.total + booking.total + redemption.number + removal.number, booking.other, booking.holds,
    hold.number, booking.waits, line.number, event.held, hold.held, event.sold, booking.sold, event.waiting,
    entry.number
FROM ledger, (
    SELECT count(*) + ifnull(sum(version), 0) AS total, ifnull(sum(held), 0) AS held,
        ifnull(sum(sold - sold_elsewhere), 0) AS sold, ifnull(sum(waiting), 0) AS waiting
    FROM events NOT INDEXED
) AS event, (
    SELECT count(*) + ifnull(sum({STILL_NUMBER}), 0) AS total, ifnull(sum(state = 'held'), 0) AS holds,
        ifnull(sum(state = 'waiting'), 0) AS waits,
        ifnull(sum(CASE WHEN digest NOTNULL THEN digest <> {DIGEST} END), 0) AS other,
        ifnull(sum(CASE WHEN state = 'confirmed' THEN quantity - {_CANCELLED} END), 0) AS sold
    FROM bookings NOT INDEXED
) AS booking,
(SELECT count(*) AS number FROM redemptions) AS redemption,
(SELECT count(*) AS number FROM removals) AS removal,
(SELECT count(*) AS number FROM events INDEXED BY sqlite_autoindex_events_1) AS entry,
(
    SELECT count(*) AS number, ifnull(sum(quantity), 0) AS held
    FROM bookings INDEXED BY holds WHERE state = 'held'
) AS hold,
(SELECT count(*) AS number FROM bookings INDEXED BY line WHERE state = 'waiting') AS line
"""


def page_fault(connection: apsw.Connection, size: int) -> str | None:
    """Return a phrase about pages whose checksums SQLite does not verify. ``size`` is that of the file, in bytes."""
    if connection.pragma("checksum_verification") != "1":
        return "its pages have no checksums"
    # SQLite would pad the last page with zeros.
    return "its last page is not whole" if size % connection.pragma("page_size") else None


def content_faults(connection: apsw.Connection, *, audited: bool) -> Iterator[str]:
    """Read everything, and yield phrases about what does not agree. Raises one of UNREADABLE.

    If it will be ``audited`` too, the audit compares the counts of the events, and this does not.
    """
    try:
        row = connection.execute(_SUMS).get
    except apsw.SQLError as error:
        yield f"its tables cannot be read: {error}"
        return
    total, found, other, holds, held_index, waits, line_index, held, booked_held, sold, booked_sold, waiting, _ = row
    if other:
        yield f"{other} bookings are not as they were saved"
    if total != found:
        yield f"its rows and versions add up to {found}, not to {total}: some of its pages are older than the others"
    for what, of_bookings, of_index in (("are held", holds, held_index), ("wait", waits, line_index)):
        if of_bookings != of_index:
            yield f"{of_bookings} bookings {what}, and their index has {of_index}"
    counts = (
        ("tickets are held", held, booked_held),
        ("tickets are sold", sold, booked_sold),
        ("bookings wait", waiting, waits),
    )
    for what, of_events, of_bookings in counts:
        if of_events != of_bookings and not audited:
            yield f"{of_events} {what} by the counts of its events, and {of_bookings} by its bookings"


def structure_faults(connection: apsw.Connection, shown_max: int = 1) -> Iterator[str]:
    """Yield the first findings of SQLite's own check. Raises one of UNREADABLE."""
    for [words] in connection.execute(f"PRAGMA integrity_check({shown_max})"):
        if words != "ok":
            lines = words.removeprefix("*** in database main ***\n").splitlines()
            yield f"SQLite: {'; '.join(lines)}"


def first_fault(connection: apsw.Connection) -> str | None:
    """Return a phrase about the first damage that SQLite's own check finds."""
    try:
        return next(structure_faults(connection), None)
    except UNREADABLE as error:
        return reason(error)


class FileCheck:
    """SQLite's own check of the file at ``path``, in a thread of its own, while the ledger is served.

    It reads the file without its log. So the whole log must have been folded into the file, and nothing may be written
    to the file until ``run`` has returned, or the check is interrupted.
    """

    def __init__(self, path: Path) -> None:
        self._connection = open_file(path)
        self._thread: asyncio.Future[str | None] | None = None
        self._interrupted = False

    async def run(self) -> str | None:
        """Return a phrase about the first damage; None if there is none, or if the check was interrupted."""
        if self._interrupted:
            self._connection.close()
            return None
        self._thread = asyncio.ensure_future(asyncio.to_thread(first_fault, self._connection))
        try:
            fault = await self._thread
        except apsw.InterruptError:
            return None
        finally:
            self._connection.close()
        return None if self._interrupted else fault

    def interrupt(self) -> None:
        """Let the check end soon, without a result."""
        self._interrupted = True
        # Read at every page. It is lost if the thread has not begun.
        self._connection.interrupt()

    async def stop(self) -> None:
        """End the check, without a result, and wait for its end."""
        self._interrupted = True
        while self._thread and not self._thread.done():
            self.interrupt()
            await asyncio.wait([self._thread], timeout=INTERRUPT_INTERVAL_SECONDS)
        self._connection.close()


def open_file(path: Path) -> apsw.Connection:
    """Return a connection that reads a file without its log, and neither locks nor changes anything."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return apsw.Connection(f"{path.as_uri()}?immutable=1", flags=flags)
