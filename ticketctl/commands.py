"""Runs one typed command: finds what it is, sends it, shows the reply, and returns the exit status."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta

from ticketctl.asking import ask
from ticketctl.auto import AUTO
from ticketctl.client import CannotConnectError, Client
from ticketctl.door import DOOR
from ticketctl.export import EXPORT
from ticketctl.facts import last_of
from ticketctl.importing import IMPORT
from ticketctl.output import (
    DONE,
    OUTCOME_UNKNOWN,
    USAGE,
    Output,
    discard,
    settling,
    typed,
    write_text,
)
from ticketctl.own import OwnCommand, OwnField
from ticketctl.report import REPORT
from ticketctl.times import Reader, past, rfc3339
from ticketctl.tokens import refuse_typed
from ticketctl.waiting import run_wait
from ticketctl.watch import WATCH, follow
from ticketd.errors import TicketError
from ticketd.model import ticket_parts
from ticketd.wire import words
from ticketd.wire.commands import commands, unknown_command
from ticketd.wire.replies import (
    BookingReply,
    BookingsReply,
    ErrorReply,
    EventReply,
    EventsReply,
    HelpReply,
    Reply,
    TicketReply,
    error_reply,
)
from ticketd.wire.requests import Auth, Bookings, Delete, Help, Redeem, Request, Show, Wait
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
    name = OTHER_NAMES.get(name, name)
    try:
        if own := OWN.get(name):
            return own.run(arguments, client, output)
        return _run_typed([name, *arguments], client, output)
    except BrokenPipeError:
        # The reader has seen enough, as in `ticketctl export tickets | head`.
        discard(sys.stdout)
        return DONE


def known() -> Mapping[str, Command | OwnCommand]:
    """Return every command that is typed, by its name: first those of the daemon, then those of the client itself."""
    typed_here = {name: command for name, command in commands().items() if command.request is not Auth}
    return {**typed_here, **OWN}


def find(name: str) -> Command | OwnCommand | None:
    """Return the command that is typed so, if there is one."""
    return known().get(OTHER_NAMES.get(name, name))


def _run_typed(command: Sequence[str], client: Client, output: Output) -> int:
    reader = Reader(output.zone)
    try:
        refuse_typed(command)
        if command[0] not in known():
            raise unknown_command(command[0], known())
        request = reader.parse(command)
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    if sys.stderr.isatty():
        for understood in reader.understood:
            output.note(understood)
    if isinstance(request, Bookings) and "limit" not in reader.given:
        # Imported here, like all that few commands need.
        from ticketctl.listing import run_bookings

        return run_bookings(request, client, output)
    if isinstance(request, Wait):
        return run_wait(request, client, output)
    return run_request(request, client, output)


def run_request(request: Request, client: Client, output: Output) -> int:
    """Send a request, show its replies, and return the exit status. Raises OSError if stdout cannot be written."""
    try:
        if isinstance(request, Help):
            _help(request, output)
            return DONE
        refuse_typed([str(request.__struct_config__.tag)])
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    if request.streams:
        return follow(request, client, output)
    _warn_of_past(request, output)
    return _ask_and_show(request, client, output)


def _warn_of_past(request: Request, output: Output) -> None:
    for name, time in past(request, datetime.now(UTC)).items():
        shown = output.zone.show(time) if output.mode == "table" else rfc3339(time)
        output.note(f"warning: {name} is in the past: {shown}")


def _ask_and_show(request: Request, client: Client, output: Output) -> int:
    reply = ask(request, client, output)
    if isinstance(reply, int):
        return reply
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
    if isinstance(request, Redeem) and isinstance(reply, BookingReply) and output.mode == "table":
        output.note(f"{request.ticket} is a booking: its tickets that were valid are redeemed")
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
        again = words.unparse(msgspec.structs.replace(request, after=after))
        if isinstance(request, Bookings) and "--limit" not in again:
            # Without it, all pages would come.
            again += ["--limit", str(request.limit)]
        command = typed(again, client, output)
        output.note(f"there are more; this shows them:\n  {command}")


def _help(request: Help, output: Output) -> None:
    """Answer ``help`` without the daemon. Raises TicketError if there is no such command."""
    if isinstance(request.command, str):
        command = find(request.command)
        if command is None:
            raise unknown_command(request.command, known())
        output.result(HelpReply([command.help]))
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


def _completion(arguments: Sequence[str], _client: Client, output: Output) -> int:
    # Imported here, because few need it.
    from ticketctl.completion import script

    try:
        shell = COMPLETION.parse(arguments)["shell"]
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    sys.stdout.write(script(shell, known()))
    return DONE


Shell = Annotated[Literal["bash", "zsh", "fish"], Meta(description="the shell whose Tab is to complete ticketctl")]

COMPLETION = OwnCommand(
    "completion", "Print the script with which a shell completes ticketctl.", [OwnField("shell", Shell)], _completion
)
EXIT = OwnCommand("exit", "Leave the shell, or end a script.", [], _exit)

# The commands of the client itself. Its help, completion and dispatch come from this table.
OWN = {own.name: own for own in (WATCH, AUTO, DOOR, EXPORT, IMPORT, REPORT, COMPLETION, EXIT)}
# What people type who know other shells.
OTHER_NAMES = {"quit": "exit", "?": "help"}
