"""Runs one typed command: finds what it is, sends it, shows the reply, and returns the exit status."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET

from ticketctl import pages
from ticketctl.auto import AUTO
from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.door import DOOR
from ticketctl.export import EXPORT
from ticketctl.importing import IMPORT
from ticketctl.output import (
    CANNOT_CONNECT,
    DONE,
    OUTCOME_UNKNOWN,
    USAGE,
    Output,
    discard,
    settling,
    status_of,
    typed,
    unknown,
    write_text,
)
from ticketctl.own import OwnCommand
from ticketctl.report import REPORT
from ticketctl.tables import last_of
from ticketctl.times import Reader, past, rfc3339
from ticketctl.tokens import refuse_typed
from ticketd.errors import TicketError
from ticketd.model import ticket_parts
from ticketd.wire import words
from ticketd.wire.commands import commands, help_reply
from ticketd.wire.replies import (
    BookingsReply,
    ErrorReply,
    EventReply,
    EventsReply,
    HelpReply,
    Reply,
    TicketReply,
    error_reply,
)
from ticketd.wire.requests import Auth, Bookings, Delete, Help, Request, Show
from ticketd.wire.roles import Role, may
from ticketd.wire.schema import Command


class Leave(Exception):
    """``exit`` was typed: the shell or the script ends, with nothing wrong."""


def run(command: Sequence[str], client: Client, output: Output) -> int:
    """Run one command, given as its words, at least one. Return its exit status.

    Raises Leave for ``exit``, KeyboardInterrupt if Ctrl-C ended what changes nothing, and OSError if stdout cannot be
    written.
    """
    name, *arguments = command
    try:
        if own := OWN.get(name):
            return own.run(arguments, client, output)
        return _run_request(command, client, output)
    except BrokenPipeError:
        # The reader has seen enough, as in `ticketctl export tickets | head`.
        discard(sys.stdout)
        return DONE


def known() -> Mapping[str, Command | OwnCommand]:
    """Return every command that is typed, by its name: first those of the daemon, then those of the client itself."""
    typed_here = {name: command for name, command in commands().items() if command.request is not Auth}
    return {**typed_here, **OWN}


def is_comment(line: str) -> bool:
    """Whether a line of a script or the shell has no command: it is blank or begins with ``#``."""
    return not line.strip() or line.lstrip().startswith("#")


def _run_request(command: Sequence[str], client: Client, output: Output) -> int:
    reader = Reader(output.zone)
    try:
        refuse_typed(command)
        request = reader.parse(command)
        if isinstance(request, Help):
            _help(request, output)
            return DONE
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    if request.streams:
        # Imported here, because its tables take longer to import than most commands take.
        from ticketctl.watch import run_watch

        return run_watch(request, client, output)
    _note_times(request, reader, output)
    if isinstance(request, Bookings) and "limit" not in reader.given:
        # Imported here, like all that few commands need.
        from ticketctl.listing import run_bookings

        return run_bookings(request, client, output)
    return _ask(request, client, output)


def _note_times(request: Request, reader: Reader, output: Output) -> None:
    """Say which moments were understood, if a person reads that, and which of them are past."""
    if sys.stderr.isatty():
        for understood in reader.understood:
            output.note(understood)
    for name, time in past(request, datetime.now(UTC)).items():
        shown = output.zone.show(time) if output.mode == "table" else rfc3339(time)
        output.note(f"warning: {name} is in the past: {shown}")


def _ask(request: Request, client: Client, output: Output) -> int:
    try:
        reply = pages.ask(client, request)
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    except OutcomeUnknownError as error:
        return unknown(error, settling(request), client, output)
    if isinstance(reply, ErrorReply):
        if reply.code == "outcome_unknown":
            output.failure(reply.code, f"{reply.message}:", typed(settling(request), client, output))
        else:
            output.error(reply)
        return status_of(reply)
    try:
        if isinstance(request, Delete) and output.mode == "table" and not output.quiet:
            write_text(f"event {request.event} is deleted", sys.stdout)
        else:
            output.result(reply)
    except (OSError, MemoryError) as error:
        if not request.writes:
            raise
        # The disk is full, perhaps. What was written to the ledger stays, so say how to see the reply.
        reason = getattr(error, "strerror", "out of memory")
        message = f"it was done, but the reply cannot be written ({reason}); this shows it again:"
        write_text(f"{message}\n  {typed(settling(request), client, output)}", sys.stderr)
        return OUTCOME_UNKNOWN
    if isinstance(request, Show) and request.kind is UNSET and not output.quiet:
        _note_same_id(request, reply, client, output)
    if isinstance(reply, EventsReply | BookingsReply):
        _note_more(request, reply, client, output)
    return DONE


def _note_same_id(request: Show, shown: Reply, client: Client, output: Output) -> None:
    """Say if a booking or a ticket has the id of what was shown, too: ``show`` finds an event first, then a booking."""
    hidden = [Show(request.id, "booking")] if isinstance(shown, EventReply) else []
    if ticket_parts(request.id)[0] and not isinstance(shown, TicketReply):
        hidden.append(Show(request.id, "ticket"))
    with suppress(CannotConnectError):
        for other in hidden:
            if not isinstance(client.ask(other), ErrorReply):
                command = typed(words.unparse(other), client, output)
                output.note(f"a {other.kind} has this id too; this shows it:\n  {command}")


def _note_more(request: Request, page: EventsReply | BookingsReply, client: Client, output: Output) -> None:
    """Say in a pipe what a terminal and JSON show anyway: that this is not the end of the list."""
    if page.more and output.mode == "plain" and (after := last_of(page)):
        command = typed(words.unparse(msgspec.structs.replace(request, after=after)), client, output)
        output.note(f"there are more; this shows them:\n  {command}")


def _help(request: Help, output: Output) -> None:
    """Answer ``help`` without the daemon. Raises TicketError if there is no such command."""
    if isinstance(request.command, str):
        own = OWN.get(request.command)
        output.result(HelpReply([own.help]) if own else help_reply(request))
        return
    others = {name for name, command in known().items() if output.role and not may(output.role, _roles(command))}
    output.result(HelpReply([command.help for name, command in known().items() if name not in others]))
    if others:
        output.note(f"not for the role {output.role}: {', '.join(sorted(others))}")


def _roles(command: Command | OwnCommand) -> frozenset[Role]:
    roles: frozenset[Role] = command.roles if isinstance(command, OwnCommand) else vars(command.request)["roles"]
    return roles


def _exit(arguments: Sequence[str], _client: Client, output: Output) -> int:
    try:
        EXIT.parse(arguments)
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    raise Leave


EXIT = OwnCommand("exit", "Leave the shell, or end a script.", [], _exit)

# The commands of the client itself. Its help, completion and dispatch come from this table.
OWN = {own.name: own for own in (AUTO, DOOR, EXPORT, IMPORT, REPORT, EXIT)}
