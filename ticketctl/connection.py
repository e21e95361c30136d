"""One blocking connection to the daemon, opened when it is needed: a socket around a ``Conversation``."""

import socket
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

from ticketctl.link import CannotOpenError, Token, Where, check_private, has_input, open_connection
from ticketctl.protocol import (
    RECEIVE_BYTES,
    Conversation,
    NoReply,
    Outcome,
    broken,
    closed_without_reply,
    interruption,
    too_late,
)
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Request


class Connection:
    """A connection to the daemon at ``where``, for one thread at a time. It is closed after anything unexpected.

    ``timeout`` is only for messages.
    """

    def __init__(self, where: Where, token: Token | None, timeout: float) -> None:
        self._where = where
        self._token = token
        self._timeout = timeout
        self._conversation: Conversation[None] = Conversation(where)
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next request can go over it."""
        return self._socket is not None

    def exchange(self, requests: Sequence[Request], deadline: float) -> list[Outcome]:
        """Send all together, and return for each its reply, or why there is none.

        Raises RefusedError if one of them is too long to be sent. Then none is sent.
        """
        self._close_if_stale()
        replies: list[Reply] = []
        failure: NoReply | None = None
        try:
            self._open(requests, deadline)
            while len(self._conversation):
                self._send(deadline)
                for reply in self._receive(deadline):
                    replies.append(reply)
            if not self._conversation.is_reusable:
                self.close()
        except NoReply as error:
            failure = self._close_after(error)
        except KeyboardInterrupt:
            # The reply may still come. It must not be taken for the reply to the next request.
            failure = self._close_after(interruption())
        except BaseException:
            self.close()
            raise
        return [*replies, *[failure] * (len(requests) - len(replies))] if failure else [*replies]

    def stream(self, requests: Sequence[Request], deadline: float, silence_seconds_max: float) -> Iterator[Reply]:
        """Send all together, and yield the replies to them, of which the last has many. Raises NoReply at the end.

        The first one must come by the deadline. After that, the daemon may be silent only for so long.
        """
        try:
            self._open(requests, deadline)
            while len(self._conversation):
                self._send(deadline)
                for reply in self._receive(deadline):
                    yield reply
                    self._timeout = silence_seconds_max
                    deadline = time.monotonic() + silence_seconds_max
        finally:
            self.close()

    def close(self) -> None:
        """Close it, if it is open."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def _close_if_stale(self) -> None:
        # No request waits for its reply. If there is anything to read, the daemon has closed the connection and says
        # why, or the server is not ticketd.
        if self._socket and has_input(self._socket, self._where):
            self.close()

    def _close_after(self, failure: NoReply) -> NoReply:
        """Close it, and return the failure, which tells then whether any request without a reply may be carried out."""
        self.close()
        failure.sent = any(sent for _, sent in self._conversation.end())
        return failure

    def _open(self, requests: Sequence[Request], deadline: float) -> None:
        """Put requests in flight, on a new connection if there is none. Raises NoReply, and RefusedError."""
        if self._socket is None:
            self._conversation = Conversation(self._where, self._token)
        for request in requests:
            self._conversation.add(request, None)
        if self._socket is None:
            try:
                self._socket = open_connection(self._where, self._left(deadline))
                check_private(self._where, self._token, self._socket.getpeername())
            except CannotOpenError as error:
                raise NoReply(str(error)) from None
            except OSError as error:
                self._broken(error)

    def _send(self, deadline: float) -> None:
        assert self._socket is not None
        if frames := self._conversation.take():
            try:
                self._socket.settimeout(self._left(deadline))
                self._socket.sendall(frames)
            except OSError as error:
                self._broken(error)

    def _receive(self, deadline: float) -> Iterator[Reply]:
        """Wait until something comes, and yield the replies that are complete then, if any. Raises NoReply."""
        assert self._socket is not None
        try:
            self._socket.settimeout(self._left(deadline))
            data = self._socket.recv(RECEIVE_BYTES)
            for _, reply in self._conversation.receive(data):
                yield reply
        except OSError as error:
            self._broken(error)
        except MemoryError:
            raise NoReply(f"there is not enough memory for the reply of {self._where}") from None
        if not data:
            raise closed_without_reply(self._where)

    def _broken(self, error: OSError) -> NoReturn:
        if isinstance(error, TimeoutError):
            raise too_late(self._where, self._timeout) from None
        raise broken(self._where, error) from None

    def _left(self, deadline: float) -> float:
        """Return how many seconds are left. Raises NoReply if none are."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise too_late(self._where, self._timeout)
        return left
