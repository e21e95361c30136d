"""Clients of the committer and the reader (connections, or parts of the daemon), and the messages of refusals."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from ticketd.config import RETRY_AFTER_SECONDS
from ticketd.wire.replies import ErrorReply, Reply

BUSY = "too many requests are waiting; nothing was done, try again"
UNREACHABLE = "the ledger cannot be reached; nothing was done, try again"
HANGS = "commits wait for an answer of the ledger; nothing was done, try again"
NOT_READY = "nothing can be sold now, so ask another daemon or try again"
BUG = "the daemon has a bug; nothing was done, its log tells more"
SHUTTING_DOWN = "the daemon is ending; nothing was done, try again when it is back"
UNKNOWN = "the outcome is unknown; send it again with the same id, which settles it"
STORAGE_FULL = ErrorReply(
    "storage_full", "the disk is full; nothing was done, try again when there is room", retry_after=RETRY_AFTER_SECONDS
)


class Client(Protocol):
    """Submits requests, such as a connection. ``peer`` is its name in the log; ``actor`` that of its token, if any."""

    peer: str
    actor: str | None

    def deliver(self, replies: Sequence[Reply]) -> None:
        """Take the replies to what was submitted. Must not raise."""
        ...


class InternalClient:
    """A part of the daemon that submits requests and awaits ``replies``."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.actor: str | None = None
        self.replies: asyncio.Future[Sequence[Reply]] = asyncio.get_running_loop().create_future()

    def deliver(self, replies: Sequence[Reply]) -> None:
        """Take the replies, unless the waiting task was cancelled."""
        if not self.replies.done():
            self.replies.set_result(replies)
