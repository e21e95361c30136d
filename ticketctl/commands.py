"""One typed command: words to a request, its reply shown, an exit status."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import msgspec

from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.render import Mode, error_text, render
from ticketd import words
from ticketd.errors import TicketError
from ticketd.model import printable
from ticketd.protocol import (
    COMMANDS,
    PORT,
    CommandHelp,
    ErrorReply,
    Help,
    HelpReply,
    Reply,
    Request,
    error_reply,
    help_reply,
)

DONE = 0
REFUSED = 1
USAGE = 2
CANNOT_CONNECT = 3
OUTCOME_UNKNOWN = 4
BUSY = 5
INTERRUPTED = 130

# Codes that mean: certainly not done, try again later.
BUSY_CODES = frozenset({"busy", "too_many_connections", "shutting_down", "storage_full"})

# The commands of the client itself.
AUTO = CommandHelp("auto", "auto COMMAND... REQUESTS DELAY_MS", "Repeat a command, and sum up what came of it.", [])
EXIT = CommandHelp("exit", "exit", "Leave the shell, or end a script.", [])


@dataclass
class Output:
    """How replies are shown: results on stdout, what went wrong on stderr; with JSON all of it on stdout."""

    mode: Mode
    quiet: bool = False
    # Stands before what goes to stderr, such as the line of a script.
    prefix: str = "ticketctl: "

    def result(self, reply: Reply) -> None:
        """Show a reply that is no error."""
        if not self.quiet:
            _print(render(reply, self.mode), sys.stdout)

    def error(self, reply: ErrorReply) -> None:
        """Show an error that the daemon, or the grammar, answered."""
        if self.mode == "json":
            _print(render(reply, "json"), sys.stdout)
        else:
            _print(self.prefix + error_text(reply), sys.stderr)

    def failure(self, code: str, message: str, settle: str | None = None) -> None:
        """Show that no reply came; ``settle`` is the command that finds out."""
        if self.mode == "json":
            fields = {"reply": "error", "code": code, "message": message}
            if settle:
                fields["settle"] = settle
            _print(printable(msgspec.json.encode(fields).decode()), sys.stdout)
        else:
            _print(printable(self.prefix + message), sys.stderr)
            if settle:
                _print(f"  {printable(settle)}", sys.stderr)

    def summary(self, fields: msgspec.Struct, text: str) -> None:
        """Show what many requests came to."""
        if not self.quiet:
            _print(printable(msgspec.json.encode(fields).decode()) if self.mode == "json" else text, sys.stdout)


def _print(text: str, stream: TextIO) -> None:
    if text:
        stream.write(text + "\n")
        stream.flush()


def run(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run one command, given as its words, and return its exit status. Raises KeyboardInterrupt for a read."""
    if arguments[0] == AUTO.command:
        from ticketctl.auto import run_auto

        return run_auto(arguments[1:], client, output)
    try:
        request = words.parse(list(arguments))
        if isinstance(request, Help):
            output.result(_help(request))
            return DONE
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    return show(request, client, output)


def show(request: Request, client: Client, output: Output) -> int:
    """Send a request, show what comes of it, and return the exit status."""
    try:
        reply = client.ask(request)
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    except OutcomeUnknownError as error:
        return unknown(error, request, client, output)
    if isinstance(reply, ErrorReply):
        if reply.code == "outcome_unknown":
            output.failure(reply.code, f"{reply.message}:", settle(request, client))
        else:
            output.error(reply)
    else:
        output.result(reply)
    return status_of(reply)


def unknown(error: OutcomeUnknownError, request: Request, client: Client, output: Output) -> int:
    """Show that the outcome of a write is unknown, with the command that settles it, and return the exit status."""
    message = f"{error}. Whether it was done is unknown; this settles it:"
    output.failure("outcome_unknown", message, settle(request, client))
    return INTERRUPTED if error.interrupted else OUTCOME_UNKNOWN


def status_of(reply: Reply) -> int:
    """Return the exit status that a reply means."""
    if not isinstance(reply, ErrorReply):
        return DONE
    if reply.code == "outcome_unknown":
        return OUTCOME_UNKNOWN
    return BUSY if reply.code in BUSY_CODES else REFUSED


def settle(request: Request, client: Client) -> str:
    """Return the command that sends the request again with the same ids."""
    where: list[str] = []
    if client.host != "127.0.0.1":
        where += ["--host", client.host]
    if client.port != PORT:
        where += ["--port", str(client.port)]
    return shlex.join(["ticketctl", *where, *words.unparse(request)])


def _help(request: Help) -> HelpReply:
    """Answer ``help`` without the daemon: the commands of the client are its own, the others are known here too."""
    own = {command.command: command for command in (AUTO, EXIT)}
    if isinstance(request.command, str) and request.command in own:
        return HelpReply([own[request.command]])
    reply = help_reply(request)
    return HelpReply([*reply.commands, *own.values()]) if len(reply.commands) == len(COMMANDS) else reply
