"""Finds a command by its name, and explains it. Pure."""

from collections.abc import Collection
from functools import cache

from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.wire.replies import HelpReply
from ticketd.wire.requests import Help, Request
from ticketd.wire.schema import Command, shown

# No name of a command is mistyped at more length.
_MISTYPED_CHARS_MAX = 20
# How many names are suggested.
_NEAR_MAX = 2


@cache
def commands() -> dict[str, Command]:
    """Return all commands by name. Cached: every Struct is defined by then."""
    return {command.name: command for command in map(Command, Request.__subclasses__())}


def unknown_command(name: object, names: Collection[str] | None = None) -> TicketError:
    """Return the error for a command that does not exist. ``names`` are those that do, if others than ``commands``."""
    near = _near(name, names or commands().keys())
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return TicketError("unknown_command", f"there is no command {shown(name)}; {meant}help lists the commands")


def _near(name: object, names: Collection[str]) -> list[str]:
    """Return the names that were probably meant, the nearest first."""
    if not isinstance(name, str) or not 1 < len(name) <= _MISTYPED_CHARS_MAX:
        return []
    # Comparing takes long, and strangers may send as many wrong names as they like.
    typed = name.lower()
    alike = [
        each for each in names if abs(len(each) - len(typed)) <= 2 and (each[0] == typed[0] or each[-1] == typed[-1])
    ]
    if not alike:
        return []
    # Imported here, because few need it.
    from difflib import get_close_matches

    return get_close_matches(typed, alike, _NEAR_MAX)


def help_reply(request: Help) -> HelpReply:
    """Return the reply to ``help``. Raises TicketError (unknown_command)."""
    if request.command is UNSET:
        return HelpReply([command.help for command in commands().values()])
    if request.command not in commands():
        raise unknown_command(request.command)
    return HelpReply([commands()[request.command].help])
