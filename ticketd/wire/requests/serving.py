"""The requests about the connection and the daemon. Pure."""

from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, UnsetType

from ticketd.wire.replies import BackupReply, HelpReply, PongReply, ReadyReply, StatsReply, WelcomeReply
from ticketd.wire.requests import fields
from ticketd.wire.requests.base import Request
from ticketd.wire.roles import ANYBODY, Role

BACKUP_NAME_CHARS_MAX = 64


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


class Backup(Request, tag="backup"):
    """Write a backup of the ledger beside it, while it sells."""

    roles: ClassVar[frozenset[Role]] = frozenset({"admin"})
    replies = (BackupReply,)

    name: Annotated[
        str,
        Meta(
            pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{BACKUP_NAME_CHARS_MAX - 1}}}\Z",
            title=f"1 to {BACKUP_NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -, the first of them a letter or a digit",
            description="the name of the backup, a new one",
        ),
    ]
