"""The requests about the connection and the daemon. Pure."""

from typing import ClassVar

from msgspec import UNSET, UnsetType

from ticketd.wire.replies import HelpReply, PongReply, ReadyReply, StatsReply, WelcomeReply
from ticketd.wire.requests import fields
from ticketd.wire.requests.base import Request
from ticketd.wire.roles import ANYBODY, Role


class Stats(Request, tag="stats"):
    """Show what the daemon is doing."""

    roles: ClassVar[frozenset[Role]] = frozenset({"admin"})
    replies = (StatsReply,)


class Auth(Request, tag="auth"):
    """Say who you are, with a token."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (WelcomeReply,)

    token: fields.Token


class Ping(Request, tag="ping"):
    """Check whether the daemon answers."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (PongReply,)


class Ready(Request, tag="ready"):
    """Check whether the daemon can sell: whether its ledger takes commits now."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (ReadyReply,)


class Help(Request, tag="help"):
    """Show the commands, or one of them with its fields."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (HelpReply,)

    command: fields.CommandName | UnsetType = UNSET
