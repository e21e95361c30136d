"""The requests: one Struct per command, with everything that both sides must know about it. Pure.

A command is defined by its Struct and nowhere else. The ``help`` reply, the words that people type, the subcommands of
ticketctl and the tables of protocol.md all come from its docstring and from the order, types, bounds and descriptions
of its fields. Its class variables say how a client may use it. Commands are listed in the order in which they are
defined.
"""

from ticketd.wire.requests.base import Request
from ticketd.wire.requests.reading import Bookings, List, Show, Watch
from ticketd.wire.requests.selling import (
    Amend,
    Annul,
    Book,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Wait,
)
from ticketd.wire.requests.serving import Auth, Backup, Help, Ping, Ready, Stats

__all__ = [
    "Amend",
    "Annul",
    "Auth",
    "Backup",
    "Book",
    "Bookings",
    "Cancel",
    "Confirm",
    "Create",
    "Delete",
    "Extend",
    "Help",
    "Hold",
    "List",
    "Ping",
    "Ready",
    "Redeem",
    "Reissue",
    "Release",
    "Request",
    "Show",
    "Stats",
    "Wait",
    "Watch",
]
