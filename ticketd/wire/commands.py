"""Finds a command by its name, and explains it. Pure."""

from functools import cache

from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.wire.replies import HelpReply
from ticketd.wire.requests import Help, Request
from ticketd.wire.schema import Command, listed, shown


@cache
def commands() -> dict[str, Command]:
    """Return all commands by name. Cached: every Struct is defined by then."""
    return {command.name: command for command in map(Command, Request.__subclasses__())}


def unknown_command(name: object) -> TicketError:
    """Return the error for a command that does not exist."""
    return TicketError("unknown_command", f"there is no command {shown(name)}; there are {listed(commands())}")


def help_reply(request: Help) -> HelpReply:
    """Return the reply to ``help``. Raises TicketError (unknown_command)."""
    if request.command is UNSET:
        return HelpReply([command.help for command in commands().values()])
    if request.command not in commands():
        raise unknown_command(request.command)
    return HelpReply([commands()[request.command].help])
