"""One typed command: words to a request, its reply shown, an exit status."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import msgspec

from ticketctl.client import NOT_DONE_CODES, CannotConnectError, Client, OutcomeUnknownError, is_repeatable, is_write
from ticketctl.render import Mode, error_text, render
from ticketd import words
from ticketd.errors import TicketError
from ticketd.model import printable
from ticketd.protocol import (
    COMMANDS,
    PORT,
    CommandHelp,
    ErrorReply,
    FieldHelp,
    Help,
    HelpReply,
    Redeem,
    Reply,
    Request,
    Show,
    Watch,
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

BUSY_CODES = NOT_DONE_CODES - {"internal", "idle_timeout"}

REQUESTS_MAX = 1_000_000
DELAY_MS_MAX = 3_600_000

# The commands of the client itself.
AUTO = CommandHelp(
    "auto",
    "auto COMMAND... REQUESTS DELAY_MS",
    "Repeat a command, and sum up what came of it.",
    [
        FieldHelp("command", True, "a command with its fields, such as book 1 2", "what to repeat"),
        FieldHelp("requests", True, f"a whole number from 1 to {REQUESTS_MAX}", "how many times"),
        FieldHelp("delay_ms", True, f"a whole number from 0 to {DELAY_MS_MAX}", "milliseconds between two of them"),
    ],
)
EXPORT = CommandHelp(
    "export",
    "export [events|bookings|tickets]",
    "Write what the ledger holds as JSON lines.",
    [FieldHelp("what", False, "events, bookings or tickets", "what to write; all of it, in this order, without it")],
)
IMPORT = CommandHelp(
    "import",
    "import FILE",
    "Take in what was exported from another ledger, or a catalogue file; repeating it changes nothing twice.",
    [FieldHelp("file", True, "the path of a file", "where the JSON lines or the events are")],
)
EXIT = CommandHelp("exit", "exit", "Leave the shell, or end a script.", [])


OWN = {command.command: command for command in (AUTO, EXPORT, IMPORT, EXIT)}


@dataclass
class Output:
    """How replies are shown: results on stdout, what went wrong on stderr; with JSON all of it on stdout."""

    mode: Mode
    quiet: bool = False
    # What stands before an error, and before a command that shall be typed where this one was: nothing in the shell.
    program: str | None = "ticketctl"
    # The line of a script.
    line: int | None = None

    def result(self, reply: Reply) -> None:
        """Show a reply that is no error."""
        if not self.quiet:
            _print(render(reply, self.mode), sys.stdout)

    def error(self, reply: ErrorReply) -> None:
        """Show an error that the daemon, or the grammar, answered."""
        self._say(msgspec.to_builtins(reply), error_text(reply))

    def failure(self, code: str, message: str, settle: str | None = None) -> None:
        """Show that no reply came; ``settle`` is the command that finds out."""
        fields: dict[str, object] = {"reply": "error", "code": code, "message": message}
        if settle:
            fields["settle"] = settle
        self._say(fields, printable(message) + (f"\n  {settle}" if settle else ""))

    def _say(self, fields: dict[str, object], text: str) -> None:
        if self.mode == "json":
            if self.line is not None:
                fields["line"] = self.line
            _print(printable(msgspec.json.encode(fields).decode()), sys.stdout)
        else:
            where = [self.program, None if self.line is None else f"line {self.line}"]
            lines = ": ".join([*filter(None, where), text]).split("\n")
            _print("\n".join(map(printable, lines)), sys.stderr)

    def summary(self, fields: msgspec.Struct, text: str) -> None:
        """Show what many requests came to."""
        if not self.quiet:
            _print(printable(msgspec.json.encode(fields).decode()) if self.mode == "json" else text, sys.stdout)


def _print(text: str, stream: TextIO) -> None:
    if not text:
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `ticketctl list | head -1`. What a script still has to do is
        # done, and its exit status tells.
        forget(stream)


def forget(stream: TextIO) -> None:
    """Let what is written to a stream from now on, or still waits in it, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_comment(line: str) -> bool:
    """Whether a line of a script or the shell asks for nothing."""
    return not line.strip() or line.lstrip().startswith("#")


def run(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run one command, given as its words, and return its exit status. Raises KeyboardInterrupt for a read."""
    if arguments[0] == AUTO.command:
        from ticketctl.auto import run_auto

        return run_auto(arguments[1:], client, output)
    try:
        return _run_one(arguments, client, output)
    except BrokenPipeError:
        # As in `ticketctl export tickets | head`; see _print.
        forget(sys.stdout)
        return DONE


def _run_one(arguments: Sequence[str], client: Client, output: Output) -> int:
    if arguments[0] in (EXPORT.command, IMPORT.command):
        from ticketctl.transfer import run_transfer

        return run_transfer(arguments, client, output)
    try:
        request = words.parse(list(arguments))
        if isinstance(request, Help):
            output.result(_help(request))
            return DONE
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    if isinstance(request, Watch):
        from ticketctl.watch import run_watch

        return run_watch(request, client, output)
    return show(request, client, output)


def show(request: Request, client: Client, output: Output) -> int:
    """Send a request, show what comes of it, and return the exit status."""
    try:
        reply = client.ask(request)
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
    else:
        try:
            output.result(reply)
        except OSError as error:
            if not is_write(request):
                raise
            # On a full disk, say: the sale stands, and whoever asked does not know its tickets.
            message = f"it was done, but the reply cannot be written ({error.strerror}); this shows it again:"
            _print(f"{message}\n  {typed(settling(request), client, output)}", sys.stderr)
            return OUTCOME_UNKNOWN
    return status_of(reply)


def unknown(error: OutcomeUnknownError, command: Sequence[str], client: Client, output: Output) -> int:
    """Show that the outcome of a write is unknown, with the command that settles it, and return the exit status."""
    what = str(error)
    message = f"{what}{'' if what[-1:] in '.?!' else '.'} Whether it was done is unknown; this settles it:"
    output.failure("outcome_unknown", message, typed(command, client, output))
    return INTERRUPTED if error.interrupted else OUTCOME_UNKNOWN


def status_of(reply: Reply) -> int:
    """Return the exit status that a reply means."""
    if not isinstance(reply, ErrorReply):
        return DONE
    if reply.code == "outcome_unknown":
        return OUTCOME_UNKNOWN
    return BUSY if reply.code in BUSY_CODES else REFUSED


def settling(request: Request) -> list[str]:
    """Return the words of the command that finds out what came of a request: mostly the same again."""
    if isinstance(request, Redeem) and not is_repeatable(request):
        return words.unparse(Show(request.ticket))
    return words.unparse(request)


def typed(command: Sequence[str], client: Client, output: Output) -> str:
    """Return the words of a command as they are typed where this one was."""
    if output.program is None:
        return shlex.join(command)
    where: list[str] = []
    if client.host != default_host():
        where += ["--host", client.host]
    if str(client.port) != default_port():
        where += ["--port", str(client.port)]
    return shlex.join([output.program, *where, *command])


def default_host() -> str:
    """Return the host to connect to where no flag names one."""
    return os.environ.get("TICKETD_HOST") or "127.0.0.1"


def default_port() -> str:
    """Return the port to connect to where no flag names one; it may not be a number."""
    return os.environ.get("TICKETD_PORT") or str(PORT)


def _help(request: Help) -> HelpReply:
    """Answer ``help`` without the daemon: the commands of the client are its own, the others are known here too."""
    if isinstance(request.command, str) and request.command in OWN:
        return HelpReply([OWN[request.command]])
    reply = help_reply(request)
    return HelpReply([*reply.commands, *OWN.values()]) if len(reply.commands) == len(COMMANDS) else reply
