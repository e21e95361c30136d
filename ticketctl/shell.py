"""The interactive shell: reads commands from a terminal, with completion, history, and a toolbar that shows the syntax.

Knows no command by name: what it completes and explains comes from ``commands.known``.
"""

import os
import time
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ticketctl import pages
from ticketctl.client import CannotConnectError, Client
from ticketctl.commands import Leave, is_comment, known, run
from ticketctl.output import DONE, INTERRUPTED, Output
from ticketctl.own import OwnCommand, OwnField
from ticketctl.tokens import may_tell, welcome
from ticketd.errors import TicketError
from ticketd.model import is_id, printable
from ticketd.wire import words
from ticketd.wire.commands import commands
from ticketd.wire.replies import ErrorReply, EventFacts, EventsReply, StatsReply, error_reply
from ticketd.wire.requests import List, Ping, Stats
from ticketd.wire.schema import Command, Field

# At most so many events are offered at once.
COMPLETIONS_MAX = 50
# The daemon is asked for its events again after this.
EVENTS_FRESH_SECONDS = 5.0
# Completion waits no longer than this for the daemon.
COMPLETION_SECONDS_MAX = 1.0


def run_shell(client: Client, output: Output) -> int:
    """Read commands from the terminal until Ctrl-D or ``exit``. Return 0."""
    output.program = None
    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=ThreadedCompleter(_Completer(client)),
        complete_while_typing=True,
        bottom_toolbar=lambda: toolbar(session.default_buffer.text),
    )
    _greet(client, output)
    try:
        while True:
            try:
                text = session.prompt(f"{client.where}> ")
            except KeyboardInterrupt:
                continue
            # Several lines may have been pasted at once. Ctrl-C drops the rest of them.
            for line in text.splitlines():
                if not _run_line(line, client, output):
                    break
    except (EOFError, Leave):
        return DONE


def _run_line(line: str, client: Client, output: Output) -> bool:
    """Run one line. Return False if Ctrl-C interrupted it. Raises Leave for ``exit``."""
    try:
        if command := [] if is_comment(line) else words.split(line):
            return run(command, client, output) != INTERRUPTED
    except TicketError as error:
        output.error(error_reply(error))
    except KeyboardInterrupt:
        print("interrupted")
        return False
    return True


def _greet(client: Client, output: Output) -> None:
    try:
        who = welcome(client)
        reply = client.ask(Stats())
        if isinstance(reply, ErrorReply) and reply.code == "unauthorized":
            # Only admins may ask for that. If the token is refused, so is this.
            reply = client.ask(Ping())
    except CannotConnectError as error:
        print(f"{error}\nThe next command tries again. help works without a daemon, Ctrl-D leaves.")
        return
    if isinstance(reply, ErrorReply):
        print(f"{printable(output.explained(reply).message)}\nThe next command tries again. Ctrl-D leaves.")
        return
    version, events = "", ""
    if isinstance(reply, StatsReply):
        version, events = f" {reply.version}", f", {reply.events} event{'' if reply.events == 1 else 's'}"
    output.role = who.role if who else None
    as_whom = f", as {who.name} ({who.role})" if who else ""
    print(printable(f"ticketd{version} at {client.where}{events}{as_whom}. Type help, or Ctrl-D to leave."))


def _history() -> History:
    """Return the history file in the state directory of the XDG Base Directory Specification, private to the user.

    If it cannot be written, return a history that lasts as long as the shell.
    """
    home = os.environ.get("XDG_STATE_HOME")
    folder = (Path(home) if home else Path.home() / ".local" / "state") / "ticketctl"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "history"
        path.touch(mode=0o600)
        with path.open("r+b"):
            return _FileHistory(str(path))
    except OSError:
        return _InMemoryHistory()


class _Discreet(History):
    """A history without lines that may have a token in them."""

    def append_string(self, string: str) -> None:
        """See History."""
        if not may_tell(string):
            super().append_string(string)


class _FileHistory(_Discreet, FileHistory):
    pass


class _InMemoryHistory(_Discreet, InMemoryHistory):
    pass


def toolbar(text: str) -> str:
    """Return the syntax of the command that the text begins with, or the names of all commands."""
    name, *_ = text.split(maxsplit=1) or [""]
    if command := known().get(name):
        return f"{command.usage}   {command.summary}"
    return "commands: " + " ".join(known())


class _Completer(Completer):
    """Completes commands, options, and the ids of the events that the daemon has now. Runs in a thread."""

    def __init__(self, client: Client) -> None:
        # A connection of its own, because that of the shell may be waiting for a reply.
        self._client = Client(
            client.where.host,
            client.where.port,
            tls=client.where.tls,
            token=client.token,
            timeout=COMPLETION_SECONDS_MAX,
        )
        self._events: list[EventFacts] = []
        self._asked = -EVENTS_FRESH_SECONDS

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand at the cursor."""
        *before, word = document.text_before_cursor.lstrip().split(" ")
        typed = [part for part in before if part]
        if not typed:
            yield from _names(known().values(), word)
        elif command := known().get(typed[0]):
            yield from self._arguments(command, typed[1:], word)

    def _arguments(self, command: Command | OwnCommand, typed: Sequence[str], word: str) -> Iterable[Completion]:
        """Yield what may follow these words, which stand after the name of the command."""
        field = _field_here(command, typed)
        if typed and command.fields and command.fields[0].completes == "repeatable commands":
            if inner := commands().get(typed[0]):
                yield from self._arguments(inner, typed[1:], word)
        elif word.startswith("-"):
            yield from _options(command, word)
        elif field:
            yield from self._values(field, word)

    def _values(self, field: Field, word: str) -> Iterable[Completion]:
        if field.choices:
            for choice in field.choices:
                if choice.startswith(word):
                    yield Completion(f"{choice} ", -len(word), display=choice, display_meta=field.description)
        elif field.completes == "events":
            yield from self._event_ids(word)
        elif field.clearable and "none".startswith(word):
            yield Completion("none ", -len(word), display="none", display_meta=f"no {field.option} any more")
        elif field.completes == "commands":
            yield from _names(known().values(), word)
        elif field.completes == "repeatable commands":
            yield from _names((command for command in commands().values() if not _streams(command)), word)

    def _event_ids(self, word: str) -> Iterable[Completion]:
        """Yield events whose id begins with the word, or whose name contains it."""
        found = 0
        for event in self._fresh_events():
            if event.id.startswith(word) or (word and word.lower() in event.name.lower()):
                left = printable(f"{event.name}, {event.available} left")
                yield Completion(f"{event.id} ", -len(word), display=event.id, display_meta=left)
                found += 1
                if found == COMPLETIONS_MAX:
                    return

    def _fresh_events(self) -> list[EventFacts]:
        if time.monotonic() - self._asked >= EVENTS_FRESH_SECONDS:
            self._asked = time.monotonic()
            try:
                reply = pages.ask(self._client, List())
            except CannotConnectError:
                return self._events
            if isinstance(reply, EventsReply):
                # A completion goes into the command line, so only ids are offered, whatever the server sends.
                self._events = [event for event in reply.events if is_id(event.id)]
        return self._events


def _names(offered: Iterable[Command | OwnCommand], word: str) -> Iterable[Completion]:
    # In order of their names, so that book comes before bookings.
    for command in sorted(offered, key=attrgetter("name")):
        if command.name.startswith(word):
            yield Completion(f"{command.name} ", -len(word), display=command.name, display_meta=command.summary)


def _options(command: Command | OwnCommand, word: str) -> Iterable[Completion]:
    for field in command.fields:
        for option in _spellings(field):
            if option.startswith(word):
                yield Completion(f"{option} ", -len(word), display=option, display_meta=field.description)


def _spellings(field: Field) -> list[str]:
    """Return how a field is typed as an option: ``--per-buyer``, or for a flag ``--paused`` and ``--no-paused``."""
    if field.positional:
        return []
    option = f"--{field.option}"
    return [option, f"--no-{field.option}"] if _is_flag(field) and not isinstance(field, OwnField) else [option]


def _is_flag(field: Field) -> bool:
    """Whether a field is an option without a value."""
    return field.flag if isinstance(field, OwnField) else field.type is bool


def _field_here(command: Command | OwnCommand, typed: Sequence[str]) -> Field | None:
    """Return the field whose value comes after these words."""
    positional = [field for field in command.fields if field.positional]
    options = {option: field for field in command.fields for option in _spellings(field)}
    rest = list(typed)
    while rest:
        option = options.get(rest.pop(0))
        if option is None:
            positional = positional[1:]
        elif not _is_flag(option):
            if not rest:
                return option
            rest.pop(0)
    return positional[0] if positional else None


def _streams(command: Command) -> bool:
    return bool(getattr(command.request, "streams", False))
