"""What Tab offers in the shell: commands, options, ids that there are, and files.

Knows no command by name: what it completes comes from ``commands.known``.
"""

import shlex
import time
from collections.abc import Iterable, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from ticketctl import pages
from ticketctl.client import CannotConnectError, Client
from ticketctl.commands import find, known
from ticketctl.own import OwnCommand, OwnField
from ticketctl.recent import Recent
from ticketd.model import is_id, printable
from ticketd.wire.commands import commands
from ticketd.wire.replies import EventFacts, EventsReply
from ticketd.wire.requests import List
from ticketd.wire.schema import Command, Field

# At most so many events are offered at once.
COMPLETIONS_MAX = 50
# The daemon is asked for its events again after this.
EVENTS_FRESH_SECONDS = 5.0
# Completion waits no longer than this for the daemon.
COMPLETION_SECONDS_MAX = 1.0


class ShellCompleter(Completer):
    """Completes a line with what the daemon has now, and what was shown lately. Runs in a thread."""

    def __init__(self, client: Client, recent: Recent) -> None:
        # A connection of its own, because that of the shell may be waiting for a reply.
        host, port, tls = client.where
        self._client = Client(host, port, tls=tls, token=client.token, timeout=COMPLETION_SECONDS_MAX)
        self._recent = recent
        self._files = PathCompleter(expanduser=True)
        self._events: list[EventFacts] = []
        self._asked = -EVENTS_FRESH_SECONDS

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand at the cursor."""
        *before, word = document.text_before_cursor.lstrip().split(" ")
        typed = [part for part in before if part]
        if not typed:
            yield from _names(known().values(), word)
        elif command := find(typed[0]):
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
        elif field.completes == "files":
            yield from self._paths(word)
        elif field.completes == "ids":
            yield from _ids([*self._recent.bookings(), *self._recent.tickets()], word)
            yield from self._event_ids(word)
        elif field.completes == "bookings":
            yield from _ids(self._recent.bookings(), word)
        elif field.completes == "tickets":
            yield from _ids([*self._recent.tickets(), *self._recent.bookings()], word)
        elif field.completes == "events":
            yield from self._event_ids(word)
        elif field.clearable and "none".startswith(word):
            yield Completion("none ", -len(word), display="none", display_meta=f"no {field.option} any more")
        elif field.completes == "commands":
            yield from _names(known().values(), word)
        elif field.completes == "repeatable commands":
            yield from _names((command for command in commands().values() if not _streams(command)), word)

    def _paths(self, word: str) -> Iterable[Completion]:
        """Yield files and folders, but none whose names need quotes."""
        for path in self._files.get_completions(Document(word), CompleteEvent()):
            if shlex.quote(path.text) in ("''", path.text):
                yield path

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


def _ids(offered: Iterable[tuple[str, str]], word: str) -> Iterable[Completion]:
    """Yield the ids that begin with the word; beside each stands what it is."""
    for id, what in offered:
        if id.startswith(word):
            yield Completion(f"{id} ", -len(word), display=id, display_meta=what)


def _names(offered: Iterable[Command | OwnCommand], word: str) -> Iterable[Completion]:
    # Tab takes the first: book, and not bookings.
    for command in sorted(offered, key=lambda command: len(command.name)) if word else offered:
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
