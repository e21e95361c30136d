"""``import``: creates the events of a catalogue file, or of the JSON lines that ``export events`` writes.

The whole file is checked before anything is sent. Every event has an id, so importing a file again changes nothing.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.output import CANNOT_CONNECT, DONE, USAGE, Output, status_of, unknown
from ticketctl.own import OwnCommand, OwnField
from ticketctl.progress import with_bar
from ticketd.errors import TicketError
from ticketd.model import milliseconds, time_of
from ticketd.wire.codec import from_fields
from ticketd.wire.commands import commands
from ticketd.wire.events_json import EventsJsonError, check_new_name, decode_file
from ticketd.wire.replies import ErrorReply, EventFacts, EventReply, error_reply
from ticketd.wire.requests import Create, Request, Show

STDIN = "-"
# What makes an event the same as that of a file.
_DECIDED = ("name", "date", "capacity", "opens", "closes", "per_buyer")

File = Annotated[
    str,
    Meta(
        title="the path of a file, or - for standard input",
        description="a catalogue such as events.json, or the JSON lines of export events",
        extra={"completes": "files"},
    ),
]


class Tally(msgspec.Struct):
    """How many events were created, how many the ledger had already, and how many were refused, by error code."""

    created: int = 0
    known: int = 0
    refused: dict[str, int] = {}


class Summary(msgspec.Struct, tag_field="reply", tag="import"):
    """What an import did."""

    events: Tally = msgspec.field(default_factory=Tally)

    def text(self) -> str:
        """Return it for people."""
        refused = ", ".join(f"{count} {code}" for code, count in sorted(self.events.refused.items())) or "none"
        return f"events: {self.events.created} created, {self.events.known} known already, refused: {refused}"


def run_import(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``import`` and return the exit status: 0, or that of the last event that was refused."""
    try:
        path = IMPORT.parse(arguments)["file"]
        events = _read(path, output)
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    summary = Summary()
    try:
        status = _send(events, summary.events, client, output)
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        status = CANNOT_CONNECT
    except OutcomeUnknownError as error:
        status = unknown(error, [IMPORT.name, path], client, output)
    if summary != Summary():
        output.summary(summary, summary.text())
    return status


IMPORT = OwnCommand(
    "import",
    "Create the events of a file. Importing it again changes nothing.",
    [OwnField("file", File)],
    run_import,
    Create.roles,
)


def _send(events: Sequence[Create], tally: Tally, client: Client, output: Output) -> int:
    """Create the events and count them. Raises CannotConnectError or OutcomeUnknownError, with the tally so far."""
    status = DONE
    requests: Iterable[Request] = with_bar(events, IMPORT.name, len(events))
    for request, reply in client.ask_all(requests):
        if not isinstance(reply, ErrorReply):
            if getattr(reply, "replayed", False):
                tally.known += 1
            else:
                tally.created += 1
        elif reply.code == "outcome_unknown":
            raise OutcomeUnknownError(reply.message, request)
        elif reply.code == "event_exists" and isinstance(request, Create) and _is_there(request, client):
            tally.known += 1
        else:
            output.error(IMPORT.refusal(reply))
            tally.refused[reply.code] = tally.refused.get(reply.code, 0) + 1
            status = status_of(reply)
    return status


def _is_there(event: Create, client: Client) -> bool:
    """Whether the event with this id is the one in the file, perhaps with sales since.

    What the file does not say is not compared, nor is ``paused``, which changes during a sale.
    """
    there = client.ask(Show(str(event.id), "event"))
    if not isinstance(there, EventReply):
        return False
    wanted = {name: getattr(event, name) for name in _DECIDED}
    return all(value is UNSET or value == getattr(there, name) for name, value in wanted.items())


def _read(path: str, output: Output) -> list[Create]:
    """Return the requests that create the events of a file. Raises TicketError (bad_request) with what is wrong."""
    if path == STDIN and (output.program is None or output.line is not None):
        raise IMPORT.wrong("here, standard input has the commands; name a file")
    where = "standard input" if path == STDIN else path
    try:
        data = _stdin() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise TicketError("bad_request", f"cannot read {where} ({error.strerror})") from None
    events = _of_lines(where, data) if _has_rows(data) else _of_catalogue(where, data)
    if not events:
        raise TicketError("bad_request", f"{where} has no events, so there is nothing to import")
    return events


def _stdin() -> bytes:
    # Python has None for a stream that was closed.
    return sys.stdin.buffer.read() if sys.stdin else b""


def _has_rows(data: bytes) -> bool:
    """Whether a file has a row in each line, and is not one catalogue with all its events in ``events``."""
    first, _, _ = data.lstrip().partition(b"\n")
    if not first:
        return True
    try:
        row = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(row, dict) and "events" not in row


def _of_catalogue(where: str, data: bytes) -> list[Create]:
    try:
        events = decode_file(data)
        for event in events:
            check_new_name(event)
    except EventsJsonError as error:
        at = where if error.line is None else f"{where}:{error.line}"
        raise TicketError("bad_request", f"{at}: {error}") from None
    return [
        Create(
            event.name,
            event.date,
            event.capacity,
            event.id,
            event.available,
            _as_kept(event.opens),
            _as_kept(event.closes),
        )
        for event in events
    ]


def _as_kept(time: datetime | None) -> datetime | UnsetType:
    """Return a time of a file as the ledger keeps it, so that it can be compared with what is there."""
    return UNSET if time is None else time_of(milliseconds(time))


def _of_lines(where: str, data: bytes) -> list[Create]:
    events: dict[str, Create] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            event = _of_row(msgspec.json.decode(line))
            wrong = f"the id {event.id} is there twice" if str(event.id) in events else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TicketError) as error:
            wrong = str(error)
        if wrong:
            raise TicketError("bad_request", f"{where}:{number}: {wrong}")
        events[str(event.id)] = event
    return list(events.values())


def _of_row(row: Any) -> Create:
    """Return the request for an exported event. What is held or sold there counts as sold elsewhere here.

    Raises TicketError, or msgspec.ValidationError for a field that is missing or has another type.
    """
    if isinstance(row, dict) and "capacity" not in row:
        for kind, field in (("booking", "quantity"), ("ticket", "booking")):
            if field in row:
                message = f"this is a {kind}; import takes events, and `ticketd move` moves a whole ledger"
                raise TicketError("bad_request", message)
    msgspec.convert(row, EventFacts)
    names = (field.name for field in commands()["create"].fields)
    request = from_fields({"cmd": "create", **{name: row[name] for name in names if name in row}})
    assert isinstance(request, Create)
    return request
