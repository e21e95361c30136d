"""``export`` and ``import``: what the ledger holds as JSON lines, and into another ledger, whatever its size."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ticketctl.client import CannotConnectError, Client
from ticketctl.commands import CANNOT_CONNECT, DONE, EXPORT, IMPORT, OWN, USAGE, Output, status_of
from ticketctl.importing import run_import
from ticketd.errors import TicketError
from ticketd.model import printable
from ticketd.protocol import (
    BOOKINGS_PER_PAGE_MAX,
    ROWS_PER_PAGE_MAX,
    Bookings,
    BookingsReply,
    ErrorReply,
    EventsReply,
    List,
    Tickets,
    TicketsReply,
    encode,
    error_reply,
)

_ROWS_PER_PAGE = {"events": ROWS_PER_PAGE_MAX, "bookings": BOOKINGS_PER_PAGE_MAX, "tickets": ROWS_PER_PAGE_MAX}
# In the order in which an import needs them.
_PAGES: dict[str, type[List] | type[Bookings] | type[Tickets]] = {
    "events": List,
    "bookings": Bookings,
    "tickets": Tickets,
}


def run_transfer(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``export`` or ``import``, given as words, and return the exit status."""
    try:
        match list(arguments):
            case [EXPORT.command]:
                return next(filter(None, (_export(what, client, output) for what in _PAGES)), DONE)
            case [EXPORT.command, what] if what in _PAGES:
                return _export(what, client, output)
            case [IMPORT.command, path]:
                return run_import(Path(path), client, output)
            case [name, *_]:
                output.error(ErrorReply("bad_request", f"usage: {OWN[name].usage}"))
    except TicketError as error:
        output.error(error_reply(error))
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    return USAGE


def _export(what: str, client: Client, output: Output) -> int:
    """Write a page after the other, so that neither side ever holds more than one."""
    after: str | msgspec.UnsetType = msgspec.UNSET
    while True:
        reply = client.ask(_PAGES[what](after, _ROWS_PER_PAGE[what]))
        match reply:
            case ErrorReply():
                output.error(reply)
                return status_of(reply)
            case EventsReply():
                facts: Sequence[msgspec.Struct] = reply.events
            case BookingsReply():
                facts = reply.bookings
            case TicketsReply():
                facts = reply.tickets
            case _:
                raise CannotConnectError(f"{client.address} answered something else")
        for fact in facts:
            sys.stdout.write(printable(encode(fact).decode()) + "\n")
        if len(facts) < _ROWS_PER_PAGE[what]:
            sys.stdout.flush()
            return DONE
        after = facts[-1].id  # type: ignore[attr-defined]
