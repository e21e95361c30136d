"""Finds a command by its name, and explains it. Pure."""

from collections.abc import Collection
from functools import cache

from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.wire.replies import HelpReply
from ticketd.wire.requests import Help, Request
from ticketd.wire.schema import Command, shown
from ticketd.wire.text import listed

# No name of a command is mistyped at more length.
_MISTYPED_CHARS_MAX = 20


@cache
def commands() -> dict[str, Command]:
    """Return all commands by name. Cached: every Struct is defined by then."""
    return {command.name: command for command in map(Command, Request.__subclasses__())}


def unknown_command(name: object, names: Collection[str] | None = None) -> TicketError:
    """Return the error for a command that does not exist. ``names`` are those that do, if others than ``commands``."""
    names = names or commands().keys()
    near = _near(name, names)
    there_are = f"did you mean {near}? There are" if near else "there are"
    return TicketError("unknown_command", f"there is no command {shown(name)}; {there_are} {listed(names)}")


def _near(name: object, names: Collection[str]) -> str | None:
    """Return the name that was probably meant, if there is one."""
    if not isinstance(name, str) or not 1 < len(name) <= _MISTYPED_CHARS_MAX:
        return None
    # Comparing takes long, and strangers may send as many wrong names as they like.
    typed = name.lower()
    alike = [
        each for each in names if abs(len(each) - len(typed)) <= 2 and (each[0] == typed[0] or each[-1] == typed[-1])
    ]
    if not alike:
        return None
    # Imported here, because few need it.
    from difflib import get_close_matches

    return next(iter(get_close_matches(typed, alike, 1)), None)


def help_reply(request: Help) -> HelpReply:
    """Return the reply to ``help``. Raises TicketError (unknown_command)."""
    if request.command is UNSET:
        return HelpReply([command.help for command in commands().values()])
    if request.command not in commands():
        raise unknown_command(request.command)
    return HelpReply([commands()[request.command].help])
