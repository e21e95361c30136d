"""The interactive shell: reads commands from a terminal, with completion, history, and a toolbar that shows the syntax.

Knows no command by name: what it explains comes from ``commands.known``.
"""

import os
import shutil
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ticketctl.client import CannotConnectError, Client
from ticketctl.commands import Leave, find, known
from ticketctl.completer import ShellCompleter
from ticketctl.lines import run_line
from ticketctl.output import DONE, INTERRUPTED, Output
from ticketctl.recent import Recent
from ticketctl.render import wrapped
from ticketctl.tokens import may_tell, who_am_i
from ticketd.wire.replies import ErrorReply, StatsReply
from ticketd.wire.requests import Ping, Stats


def run_shell(client: Client, output: Output) -> int:
    """Read commands from the terminal until Ctrl-D or ``exit``. Return 0."""
    output.program = None
    recent = Recent()
    output.seen = recent.see
    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=ThreadedCompleter(ShellCompleter(client, recent)),
        complete_while_typing=True,
        bottom_toolbar=lambda: toolbar(session.default_buffer.text, shutil.get_terminal_size().columns),
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
        return run_line(line, client, output) != INTERRUPTED
    except KeyboardInterrupt:
        print("interrupted")
        return False


def _greet(client: Client, output: Output) -> None:
    try:
        who = who_am_i(client)
        reply = client.ask(Stats())
        if isinstance(reply, ErrorReply) and reply.code == "unauthorized":
            # Only admins may ask for that. If the token is refused, so is this.
            reply = client.ask(Ping())
    except CannotConnectError as error:
        _say(str(error), "The next command tries again. help works without a daemon, Ctrl-D leaves.")
        return
    if isinstance(reply, ErrorReply):
        _say(output.explained(reply).message, "The next command tries again. Ctrl-D leaves.")
        return
    version, events = "", ""
    if isinstance(reply, StatsReply):
        version, events = f" {reply.version}", f", {reply.events} event{'' if reply.events == 1 else 's'}"
    output.role = who.role if who else None
    as_whom = f", as {who.name} ({who.role})" if who else ""
    _say(f"ticketd{version} at {client.where}{events}{as_whom}. Type help, or Ctrl-D to leave.")


def _say(*lines: str) -> None:
    for line in lines:
        print("\n".join(wrapped(line, shutil.get_terminal_size().columns, 0)))


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


def toolbar(text: str, columns: int) -> str:
    """Return the syntax of the command that the text begins with, or the names of all commands, in so many columns."""
    name, *_ = text.split(maxsplit=1) or [""]
    if command := find(name):
        return "\n".join([*wrapped(command.usage, columns, 2), *wrapped(command.summary, columns, 2)])
    return "\n".join(wrapped("commands: " + " ".join(known()), columns, 2))
