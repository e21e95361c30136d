"""``export`` and ``import``: the ledger as JSON lines, and events from a file, whatever their number."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.commands import CANNOT_CONNECT, DONE, EXPORT, IMPORT, OWN, USAGE, Output, status_of, unknown
from ticketctl.progress import with_bar
from ticketd.errors import TicketError
from ticketd.events_file import EventsFile, EventsFileError
from ticketd.model import printable
from ticketd.protocol import (
    BOOKINGS_PER_PAGE_MAX,
    ROWS_PER_PAGE_MAX,
    Bookings,
    BookingsReply,
    Create,
    ErrorReply,
    EventFacts,
    EventReply,
    EventsReply,
    List,
    Reply,
    Show,
    Tickets,
    TicketsReply,
    encode,
    error_reply,
    from_fields,
)

_ROWS_PER_PAGE = {"events": ROWS_PER_PAGE_MAX, "bookings": BOOKINGS_PER_PAGE_MAX, "tickets": ROWS_PER_PAGE_MAX}
_PAGES: dict[str, type[List] | type[Bookings] | type[Tickets]] = {
    "events": List,
    "bookings": Bookings,
    "tickets": Tickets,
}


class Imported(msgspec.Struct, tag_field="reply", tag="import"):
    """What an import came to."""

    created: int
    known: int
    refused: dict[str, int]


def run_transfer(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``export`` or ``import``, given as words, and return the exit status."""
    try:
        match list(arguments):
            case [EXPORT.command, ("events" | "bookings" | "tickets") as what]:
                return _export(what, client, output)
            case [IMPORT.command, path]:
                return _import(_events(Path(path)), client, output)
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


def _import(events: Sequence[Create], client: Client, output: Output) -> int:
    created = known = 0
    refused: Counter[str] = Counter()
    status = DONE
    for event in with_bar(events, "import"):
        try:
            reply: Reply = client.ask(event)
        except OutcomeUnknownError as error:
            return unknown(error, event, client, output)
        if isinstance(reply, ErrorReply) and reply.code == "event_exists" and _is_there(event, client):
            known += 1
        elif isinstance(reply, ErrorReply):
            output.error(reply)
            refused[reply.code] += 1
            status = status_of(reply)
        elif isinstance(reply, EventReply) and reply.replayed:
            known += 1
        else:
            created += 1
    refusals = ", ".join(f"{count} {code}" for code, count in sorted(refused.items())) or "none"
    text = f"events: {created} created, {known} known already, refused: {refusals}"
    output.summary(Imported(created, known, dict(refused)), text)
    return status


def _is_there(event: Create, client: Client) -> bool:
    """Whether the event with this id is the same one, of which more or fewer tickets are left."""
    there = client.ask(Show(str(event.id)))
    wanted = (event.name, event.date, event.capacity)
    return isinstance(there, EventReply) and (there.name, there.date, there.capacity) == wanted


def _events(path: Path) -> list[Create]:
    """Return what creates the events of a file, or raise TicketError that says what is wrong with it."""
    try:
        # Read once: it may be a pipe.
        data = path.read_bytes()
        if not data or _is_event(data.partition(b"\n")[0]):
            return list(_from_lines(path, data))
        if not path.is_file():
            raise TicketError("bad_request", f"{path} is no file; what is not exported JSON lines must be one")
        events = EventsFile(path).read()
    except EventsFileError as error:
        raise TicketError("bad_request", str(error)) from None
    except OSError as error:
        raise TicketError("bad_request", f"cannot read {path} ({error.strerror})") from None
    return [Create(event.name, event.date, event.capacity, event.id, event.available) for event in events]


def _is_event(line: bytes) -> bool:
    """Whether a line is an exported event, maybe with something wrong; that of a catalogue has ``events`` in it."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(fields, dict) and "events" not in fields


def _from_lines(path: Path, data: bytes) -> Iterator[Create]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            event = msgspec.json.decode(line, type=EventFacts)
            fields = {name: getattr(event, name) for name in ("id", "name", "date", "capacity", "available")}
            request = from_fields({"cmd": "create", **fields})
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TicketError("bad_request", f"{path}:{number}: {error}") from None
        except TicketError as error:
            raise TicketError(error.code, f"{path}:{number}: {error.message}") from None
        assert isinstance(request, Create)
        yield request
