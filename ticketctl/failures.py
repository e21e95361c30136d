"""What may go wrong between a client and the daemon: the exceptions of the library. Knows no connections."""

from ticketd.errors import Code
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import Request


class ClientError(Exception):
    """The base of all that a client raises on purpose."""


class RefusedError(ClientError):
    """The daemon answered with an error. ``reply`` has all of its fields, such as ``available`` or ``retry_after``."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply)
        self.reply = reply

    def __str__(self) -> str:
        return self.reply.message

    @property
    def code(self) -> Code:
        """What to decide by: one of the codes in protocol.md."""
        return self.reply.code


class CannotConnectError(ClientError):
    """No reply came, and nothing was changed; a backup may still be written. The message says why."""


class NotTicketdError(CannotConnectError):
    """What answers does not speak ticketd's protocol, so trying again makes no sense."""


class OutcomeUnknownError(ClientError):
    """A write was sent, and it is not known whether it was done.

    ``request`` has its ids: ``client.call(error.request)`` sends it again, and settles it. For ``amend``, ``annul`` and
    ``delete``, which have no ids, ask ``show`` first. ``interrupted`` is True if Ctrl-C ended the wait for the reply.
    """

    def __init__(self, why: str, request: Request, *, interrupted: bool = False) -> None:
        super().__init__(why, request)
        self.request = request
        self.interrupted = interrupted

    def __str__(self) -> str:
        return str(self.args[0])
