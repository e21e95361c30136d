"""``import``: what another ledger exported, or a catalogue file, into this one, a few lines at a time.

Events come first, with all that is sold or held there counted as sold elsewhere; then the bookings, each with its past;
then the tickets that were used. All of it may be sent again and changes nothing then, so an import that broke off is
run once more.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ticketctl.client import Client, OutcomeUnknownError
from ticketctl.commands import DONE, IMPORT, Output, status_of, unknown
from ticketctl.progress import with_bar
from ticketd.errors import TicketError
from ticketd.events_file import EventsFile, EventsFileError
from ticketd.model import Change
from ticketd.protocol import (
    TICKETS_PER_RESTORE_MAX,
    BookingRecord,
    Create,
    ErrorReply,
    EventFacts,
    EventReply,
    Made,
    Redeem,
    Request,
    Restore,
    Show,
    TicketFacts,
    from_fields,
)


class Tally(msgspec.Struct):
    """What became of what there is of one kind."""

    done: int = 0
    known: int = 0
    refused: dict[str, int] = {}


class Imported(msgspec.Struct, tag_field="reply", tag="import"):
    """What an import came to: events that were created, bookings that were restored, tickets that were redeemed."""

    events: Tally = msgspec.field(default_factory=Tally)
    bookings: Tally = msgspec.field(default_factory=Tally)
    tickets: Tally = msgspec.field(default_factory=Tally)

    def of(self, request: Request) -> Tally:
        """Return where a request counts."""
        return {Create: self.events, Restore: self.bookings, Redeem: self.tickets}[type(request)]

    def text(self) -> str:
        """Return it for people."""
        lines = []
        for what, done, tally in (
            ("events", "created", self.events),
            ("bookings", "restored", self.bookings),
            ("tickets", "redeemed", self.tickets),
        ):
            refused = ", ".join(f"{count} {code}" for code, count in sorted(tally.refused.items())) or "none"
            lines.append(f"{what}: {tally.done} {done}, {tally.known} known already, refused: {refused}")
        return "\n".join(lines)


def run_import(path: Path, client: Client, output: Output) -> int:
    """Take in what the file has, and return the exit status. Raises CannotConnectError, or TicketError for the file."""
    with _opened(path) as file:
        # Nothing is sent before all of it is seen to be right.
        total = sum(1 for _ in _requests(path, file))
        try:
            return _send(with_bar(_requests(path, file), "import", total), client, output)
        except OutcomeUnknownError as error:
            return unknown(error, [IMPORT.command, str(path)], client, output)


def _send(requests: Iterable[Request], client: Client, output: Output) -> int:
    imported = Imported()
    status = DONE
    for request, reply in client.ask_all(requests):
        tally = imported.of(request)
        if isinstance(reply, ErrorReply):
            if reply.code == "outcome_unknown":
                raise OutcomeUnknownError(reply.message)
            if reply.code == "event_exists" and isinstance(request, Create) and _is_there(request, client):
                tally.known += 1
                continue
            output.error(reply)
            tally.refused[reply.code] = tally.refused.get(reply.code, 0) + 1
            status = status_of(reply)
        elif isinstance(request, Restore) and request.before:
            # Its booking was counted with the first part of it.
            continue
        elif getattr(reply, "replayed", False):
            tally.known += 1
        else:
            tally.done += 1
    output.summary(imported, imported.text())
    return status


def _is_there(event: Create, client: Client) -> bool:
    """Whether the event with this id is the same one, of which more or fewer tickets are left."""
    there = client.ask(Show(str(event.id)))
    wanted = (event.name, event.date, event.capacity)
    return isinstance(there, EventReply) and (there.name, there.date, there.capacity) == wanted


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that will be read twice; what comes through a pipe is kept in another one."""
    with ExitStack() as stack:
        try:
            file: BinaryIO = stack.enter_context(path.open("rb"))
            if not file.seekable():
                pipe, file = file, stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(pipe, file)
        except OSError as error:
            raise _cannot_read(path, error) from None
        yield file


def _requests(path: Path, file: BinaryIO) -> Iterator[Request]:
    """Yield what takes in the content of a file, or raise TicketError that says what is wrong with it."""
    try:
        file.seek(0)
        first = file.readline()
        if first and not _is_row(first):
            yield from _of_catalogue(path)
            return
        file.seek(0)
        held: dict[str, int] = {}
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield from requests_of(msgspec.json.decode(line), held)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise TicketError("bad_request", f"{path}:{number}: {error}") from None
            except TicketError as error:
                raise TicketError(error.code, f"{path}:{number}: {error.message}") from None
    except OSError as error:
        raise _cannot_read(path, error) from None


def _cannot_read(path: Path, error: OSError) -> TicketError:
    return TicketError("bad_request", f"cannot read {path} ({error.strerror})")


def _is_row(line: bytes) -> bool:
    """Whether a line is an exported one, maybe with something wrong; that of a catalogue has ``events`` in it."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(fields, dict) and "events" not in fields


def _of_catalogue(path: Path) -> Iterator[Create]:
    if not path.is_file():
        raise TicketError("bad_request", f"{path} is no file; what is not exported JSON lines must be one")
    try:
        events = EventsFile(path).read()
    except EventsFileError as error:
        raise TicketError("bad_request", str(error)) from None
    for event in events:
        yield Create(event.name, event.date, event.capacity, event.id, event.available)


def requests_of(row: Any, held: dict[str, int]) -> Iterator[Request]:
    """Yield what takes in one line. ``held`` has the versions of the events that had tickets held when written."""
    names = row if isinstance(row, dict) else ()
    if "quantity" in names:
        yield from _of_booking(msgspec.convert(row, BookingRecord), held)
    elif "booking" in names:
        ticket = msgspec.convert(row, TicketFacts)
        if ticket.state == "redeemed":
            yield from_fields({"cmd": "redeem", "ticket": ticket.id, "at": ticket.redeemed_at})
    else:
        event = msgspec.convert(row, EventFacts)
        if event.held:
            held[event.id] = event.version
        facts = ("id", "name", "date", "capacity", "available", "version")
        yield from_fields({"cmd": "create", **{name: getattr(event, name) for name in facts}})


def _of_booking(booking: BookingRecord, held: dict[str, int]) -> Iterator[Request]:
    made = booking.made or Made(booking.available, booking.version)
    changes = booking.changes
    if booking.state == "expired" and booking.version > held.get(booking.event, booking.version):
        # It ran out after its event was written, where its tickets are among those held. It will run out here too.
        changes = ()
    fields: dict[str, object] = {"cmd": "restore", "booking": booking.id, "event": booking.event}
    fields |= {"quantity": booking.quantity, "available": made.available, "version": made.version}
    if made.seconds is not None:
        fields |= {"seconds": made.seconds, "expires": made.expires}
    for before in range(0, len(booking.tickets) or 1, TICKETS_PER_RESTORE_MAX):
        if tickets := booking.tickets[before : before + TICKETS_PER_RESTORE_MAX]:
            fields |= {"tickets": tickets, "before": before}
        if changes:
            fields["changes"] = list(_about(tickets, changes))
        yield from_fields(fields)


def _about(tickets: Sequence[str], changes: Sequence[Change]) -> Iterator[Change]:
    """Yield the changes, of the cancels only those of these tickets."""
    its_own = set(tickets)
    for change in changes:
        cancelled = [ticket for ticket in change.tickets if ticket in its_own]
        if cancelled or change.what != "cancel":
            yield Change(change.what, change.available, change.version, cancelled)
