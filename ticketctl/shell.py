"""The interactive shell: one command after the other, with completion, history and a line that tells the syntax."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ticketctl.client import CannotConnectError, Client
from ticketctl.commands import AUTO, DONE, EXIT, INTERRUPTED, OWN, Output, is_comment, run
from ticketd import words
from ticketd.declared import Command, Field
from ticketd.errors import TicketError
from ticketd.model import printable
from ticketd.protocol import COMMANDS, EventFacts, EventsReply, List, Stats, StatsReply, error_reply

COMPLETIONS_MAX = 50
EVENTS_FRESH_SECONDS = 5.0
COMPLETION_SECONDS_MAX = 1.0


def run_shell(client: Client, output: Output) -> int:
    """Read commands from the terminal until Ctrl-D or ``exit``; return 0."""
    output.program = None
    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=ThreadedCompleter(_Completer(client)),
        complete_while_typing=True,
        bottom_toolbar=lambda: _toolbar(session.default_buffer.text),
    )
    _greet(client)
    while True:
        try:
            line = session.prompt(f"{client.address}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return DONE
        # Several lines may have been pasted at once.
        for command_line in line.splitlines():
            if command_line.strip() == EXIT.command:
                return DONE
            if not _run_line(command_line, client, output):
                break


def _run_line(line: str, client: Client, output: Output) -> bool:
    """Run one line; return False if the person interrupted it."""
    try:
        if command := [] if is_comment(line) else words.split(line):
            return run(command, client, output) != INTERRUPTED
    except TicketError as error:
        output.error(error_reply(error))
    except KeyboardInterrupt:
        print("interrupted")
        return False
    return True


def _greet(client: Client) -> None:
    try:
        stats = client.ask(Stats())
    except CannotConnectError as error:
        print(f"{error}\nEach command tries again; help works without it, Ctrl-D leaves.")
        return
    if isinstance(stats, StatsReply):
        events = f"{stats.events} event{'' if stats.events == 1 else 's'}"
        print(printable(f"ticketd {stats.version} at {client.address}, {events}. Type help, or Ctrl-D to leave."))


def _history() -> History:
    """Return the history in the state directory of the XDG Base Directory Specification."""
    home = os.environ.get("XDG_STATE_HOME")
    folder = (Path(home) if home else Path.home() / ".local" / "state") / "ticketctl"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "history"
        path.touch(mode=0o600)
        with path.open("r+b"):
            return FileHistory(str(path))
    except OSError:
        return InMemoryHistory()


def _toolbar(text: str) -> AnyFormattedText:
    name, *_ = text.split(maxsplit=1) or [""]
    if name in OWN:
        return f"{OWN[name].usage}   {OWN[name].summary}"
    if name in COMMANDS:
        return f"{COMMANDS[name].usage}   {COMMANDS[name].summary}"
    return "commands: " + " ".join([*COMMANDS, *OWN])


class _Completer(Completer):
    """Completes commands, options and the ids of the events that the daemon has now. Runs in a thread."""

    def __init__(self, client: Client) -> None:
        # A connection of its own: the shell's may be waiting for a reply.
        self._client = Client(client.host, client.port, COMPLETION_SECONDS_MAX)
        self._events: list[EventFacts] = []
        self._asked = -EVENTS_FRESH_SECONDS

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand where the cursor is."""
        *before, word = document.text_before_cursor.lstrip().split(" ") or [""]
        typed = [part for part in before if part]
        if typed[:1] == [AUTO.command]:
            typed = typed[1:]
        if not typed:
            for name in (*COMMANDS, *OWN):
                if name.startswith(word):
                    yield Completion(f"{name} ", -len(word), display=name, display_meta=_summary(name))
            return
        command = COMMANDS.get(typed[0])
        if command is None:
            return
        if word.startswith("-"):
            for field in command.fields:
                option = f"--{field.name}"
                if not field.positional and option.startswith(word):
                    yield Completion(f"{option} ", -len(word), display=option, display_meta=field.description)
            return
        field_here = _field_here(command, typed[1:])
        if field_here and field_here.completes == "events":
            yield from self._event_ids(word)
        elif field_here and field_here.completes == "commands":
            for name in (*COMMANDS, *OWN):
                if name.startswith(word):
                    yield Completion(f"{name} ", -len(word), display=name, display_meta=_summary(name))

    def _event_ids(self, word: str) -> Iterable[Completion]:
        """Yield events whose id begins with the word or whose name contains it."""
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
                reply = self._client.ask(List())
            except CannotConnectError:
                return self._events
            if isinstance(reply, EventsReply):
                self._events = reply.events
        return self._events


def _summary(name: str) -> str:
    return OWN[name].summary if name in OWN else COMMANDS[name].summary


def _field_here(command: Command, typed: list[str]) -> Field | None:
    """Return the field whose value is being typed after these words."""
    positional = [field for field in command.fields if field.positional]
    options = {f"--{field.name}": field for field in command.fields if not field.positional}
    rest = list(typed)
    while rest:
        word = rest.pop(0)
        if word in options:
            if not rest:
                return options[word]
            rest.pop(0)
        elif positional:
            positional.pop(0)
    return positional[0] if positional else None
