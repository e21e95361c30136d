"""Where results and errors go, and the exit statuses.

Stands below everything that runs a command, and runs none itself.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

import msgspec

from ticketctl.client import Client, OutcomeUnknownError
from ticketctl.protocol import BUSY_CODES
from ticketctl.render import Mode, error_text, render, wrapped
from ticketctl.times import LOCAL, Zone
from ticketd.model import printable
from ticketd.wire import PORT, words
from ticketd.wire.replies import ErrorReply, Reply
from ticketd.wire.requests import Request, Show
from ticketd.wire.roles import SAY_WHO, SAY_WHO_AT_ONCE, WRONG_TOKEN, Role

DONE = 0
REFUSED = 1
USAGE = 2
CANNOT_CONNECT = 3
OUTCOME_UNKNOWN = 4
BUSY = 5
INTERRUPTED = 130


@dataclass
class Output:
    """Shows results on stdout and errors on stderr; in JSON mode, both on stdout."""

    mode: Mode
    quiet: bool = False
    # The name before an error, and before a command that the person may type next. None in the shell.
    program: str | None = "ticketctl"
    # In a script, the number of the line that is being run, from 1.
    line: int | None = None
    # Where people are: times without an offset are read there, and those on a terminal are shown there.
    zone: Zone = LOCAL
    # Options that a command needs too which the person may type next.
    options: Sequence[str] = ()
    # The file with the token, if there is one.
    token_file: str | None = None
    # What the person is, if that is known. The help leaves out what they may not do.
    role: Role | None = None
    # Is given each reply that is shown.
    seen: Callable[[Reply], None] | None = None

    def result(self, reply: Reply) -> None:
        """Show a reply that is not an error. Raises OSError if stdout cannot be written."""
        if self.seen:
            self.seen(reply)
        if not self.quiet:
            write_text(render(reply, self.mode, self.zone), sys.stdout)

    def error(self, reply: ErrorReply) -> None:
        """Show an error from the daemon, or from a check before anything was sent."""
        zone = self.zone if self.mode == "table" else None
        reply = self.explained(reply)
        self._write_error(msgspec.to_builtins(reply), error_text(reply, zone))

    def explained(self, reply: ErrorReply) -> ErrorReply:
        """Return an error that says how a person gives a token here, and which one is not valid."""
        if reply.code != "unauthorized":
            return reply
        message = reply.message
        for said in (SAY_WHO, SAY_WHO_AT_ONCE):
            message = message.replace(said, "give your token with --token-file (or TICKETD_TOKEN_FILE)")
        if self.token_file:
            message = message.replace(WRONG_TOKEN, f"the token in {self.token_file} is not valid")
        return msgspec.structs.replace(reply, message=message)

    def failure(self, code: str, message: str, settle: str | None = None) -> None:
        """Show that no reply came. ``settle`` is the command that finds out what happened."""
        fields: dict[str, object] = {"reply": "error", "code": code, "message": message}
        if settle:
            fields["settle"] = settle
        self._write_error(fields, printable(message) + (f"\n  {settle}" if settle else ""))

    def _write_error(self, fields: dict[str, object], text: str) -> None:
        if self.mode == "json":
            if self.line is not None:
                fields["line"] = self.line
            write_text(printable(msgspec.json.encode(fields).decode()), sys.stdout)
        else:
            where = [self.program, None if self.line is None else f"line {self.line}"]
            self._tell(": ".join([*filter(None, where), text]))

    def summary(self, fields: msgspec.Struct, text: str) -> None:
        """Show what many requests did: ``fields`` in JSON mode, else ``text``."""
        if not self.quiet:
            write_text(printable(msgspec.json.encode(fields).decode()) if self.mode == "json" else text, sys.stdout)

    def note(self, text: str) -> None:
        """Show on stderr, in every mode, what is neither a result nor an error."""
        if not self.quiet:
            self._tell(": ".join([*filter(None, [self.program]), text]))

    def _tell(self, text: str) -> None:
        """Write a message to stderr, and below it the commands that it has."""
        message, *commands = map(printable, text.split("\n"))
        if self.mode == "table" and sys.stderr.isatty():
            # Words stay whole, and commands on one line, to be copied.
            message = "\n".join(wrapped(message, shutil.get_terminal_size().columns, 2))
        write_text("\n".join([message, *commands]), sys.stderr)


def write_text(text: str, stream: TextIO) -> None:
    """Write text and a newline, or nothing if the text is empty. Raises OSError, but not for a closed pipe."""
    if not text:
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        # The reader has seen enough, as in `ticketctl list | head -1`. The rest of a script still runs, and its exit
        # status counts.
        discard(stream)


def discard(stream: TextIO) -> None:
    """Send what is written to a stream from now on, and what is still in its buffer, to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def status_of(reply: Reply) -> int:
    """Return the exit status for a reply."""
    if not isinstance(reply, ErrorReply):
        return DONE
    if reply.code == "outcome_unknown":
        return OUTCOME_UNKNOWN
    if reply.code == "bad_frame":
        # Requests are well formed, so this port speaks something else: TLS.
        return CANNOT_CONNECT
    return BUSY if reply.code in BUSY_CODES else REFUSED


def unknown(error: OutcomeUnknownError, command: Sequence[str], client: Client, output: Output) -> int:
    """Show that the outcome of a write is unknown, with the command that settles it, and return the exit status."""
    why = str(error)
    message = f"{why}{'' if why[-1:] in '.?!' else '.'} Whether it was done is unknown; this settles it:"
    output.failure("outcome_unknown", message, typed(command, client, output))
    return INTERRUPTED if error.interrupted else OUTCOME_UNKNOWN


def settling(request: Request) -> list[str]:
    """Return the words of the command that finds out what a request did: the same request, or a ``show``."""
    if request.outcome_shown_by:
        return words.unparse(Show(getattr(request, request.outcome_shown_by)))
    return words.unparse(request)


def typed(command: Sequence[str], client: Client, output: Output) -> str:
    """Return a command as the person types it next: in the same shell, or for the same daemon."""
    if output.program is None:
        return shlex.join(command)
    where: list[str] = []
    if client.where.host != default_host():
        where += ["--host", client.where.host]
    if str(client.where.port) != default_port():
        where += ["--port", str(client.where.port)]
    return shlex.join([output.program, *where, *output.options, *command])


def default_host() -> str:
    """Return the host to connect to if no option names one."""
    return os.environ.get("TICKETD_HOST") or "127.0.0.1"


def default_port() -> str:
    """Return the port to connect to if no option names one. It comes from the environment and may not be a number."""
    return os.environ.get("TICKETD_PORT") or str(PORT)


def default_timezone() -> str | None:
    """Return the zone to read and show times in if no option names one. None is the local one."""
    return os.environ.get("TICKETD_TIMEZONE") or None


def default_tls_ca() -> str | None:
    """Return the file of certificates to trust if no option names one. Raises ValueError if that is set but empty."""
    return _file_in("TICKETD_TLS_CA")


def default_token_file() -> str | None:
    """Return the file with the token if no option names one. Raises ValueError if that is set but empty."""
    return _file_in("TICKETD_TOKEN_FILE")


def _file_in(variable: str) -> str | None:
    file = os.environ.get(variable)
    if file == "":
        raise ValueError(f"{variable} is set but empty; unset it, or name a file")
    return file
