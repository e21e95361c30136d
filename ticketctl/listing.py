"""``bookings`` without a limit: all pages, shown as they come, so that only one of them is ever in memory."""

import sys
from typing import Protocol

import msgspec

from ticketctl import pages
from ticketctl.client import CannotConnectError, Client, RefusedError
from ticketctl.facts import last_of
from ticketctl.output import CANNOT_CONNECT, DONE, Output, status_of
from ticketctl.render import booking_line
from ticketctl.tables import BookingsTable
from ticketd.model import printable
from ticketd.wire.codec import encode
from ticketd.wire.replies import BookingsReply
from ticketd.wire.requests import Bookings


def run_bookings(request: Bookings, client: Client, output: Output) -> int:
    """Show the bookings and return the exit status. Raises BrokenPipeError, and OSError if stdout cannot be written."""
    listing = _listing(output)
    count = 0
    try:
        for page in pages.bookings(client, request):
            listing.add(page)
            if output.seen:
                output.seen(page)
            sys.stdout.flush()
            count += len(page.bookings)
    except (RefusedError, CannotConnectError) as error:
        listing.end(whole=False)
        why = str(error) if listing.empty else pages.incomplete(str(error), pages.counted(count, "bookings"))
        if isinstance(error, CannotConnectError):
            output.failure("cannot_connect", why)
            return CANNOT_CONNECT
        output.error(msgspec.structs.replace(error.reply, message=why))
        return status_of(error.reply)
    except KeyboardInterrupt:
        listing.end(whole=False)
        raise
    listing.end(whole=True)
    return DONE


class _Listing(Protocol):
    """Writes one page after the other to stdout. ``empty``: none was written yet."""

    empty: bool

    def add(self, page: BookingsReply) -> None:
        """Write the bookings of a page."""

    def end(self, *, whole: bool) -> None:
        """Write what comes after the last page. ``whole`` says that no page is missing."""


def _listing(output: Output) -> _Listing:
    if output.quiet:
        return _Nothing()
    if output.mode == "json":
        return _Json()
    return _Lines() if output.mode == "plain" else _Table(output)


class _Nothing:
    empty = True

    def add(self, _page: BookingsReply) -> None:
        self.empty = False

    def end(self, *, whole: bool) -> None:
        pass


class _Lines(_Nothing):
    def add(self, page: BookingsReply) -> None:
        self.empty = False
        sys.stdout.writelines(f"{booking_line(booking)}\n" for booking in page.bookings)


class _Table:
    def __init__(self, output: Output) -> None:
        self.empty = True
        self._any = False
        self._table = BookingsTable(output.zone)

    def add(self, page: BookingsReply) -> None:
        self.empty = False
        if page.bookings:
            self._any = True
            sys.stdout.write(self._table.rows(page.bookings) + "\n")

    def end(self, *, whole: bool) -> None:
        if whole and not self._any:
            sys.stdout.write("no bookings\n")


class _Json:
    """One reply, with the bookings of all pages. If it is not whole, it says ``more``, as a page does."""

    def __init__(self) -> None:
        self.empty = True
        self._separator = ""
        self._last: str | None = None

    def add(self, page: BookingsReply) -> None:
        if self.empty:
            sys.stdout.write('{"reply":"bookings","bookings":[')
            self.empty = False
        for booking in page.bookings:
            sys.stdout.write(self._separator + printable(encode(booking).decode()))
            self._separator = ","
        self._last = last_of(page) or self._last

    def end(self, *, whole: bool) -> None:
        if self.empty:
            return
        last = "" if self._last is None else f',"last":{printable(encode(self._last).decode())}'
        sys.stdout.write("]}\n" if whole else f'],"more":true{last}}}\n')
