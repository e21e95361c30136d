"""The protocol: a blocking connection that sends requests to the daemon and returns its replies.

Owns the connection, its deadlines, and the rule for sending a request again. Knows nothing of what people see.
"""

import socket
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import NoReturn

import msgspec

from ticketctl.link import (
    CannotOpenError,
    NotTrustedError,
    Token,
    UnknownHostError,
    Where,
    has_input,
    is_private,
    open_connection,
)
from ticketd.wire.codec import decode_reply, encode
from ticketd.wire.replies import REPLY_BYTES_MAX, ErrorReply, PongReply, Reply
from ticketd.wire.requests import Auth, Ping, Request

RECEIVE_BYTES = 64 * 1024
# How many requests are sent before their replies are read. The daemon takes as many of one connection into a commit.
REQUESTS_AT_ONCE_MAX = 64
# How often a repeatable request is sent if connections break.
ATTEMPTS_MAX = 2

# Codes after which a request may be done if it is sent again.
AGAIN_CODES = frozenset({"busy", "too_many_connections", "shutting_down", "storage_full", "idle_timeout", "internal"})
# Codes that promise that this try was not carried out, and tell nothing about an earlier one.
NOT_DONE_CODES = AGAIN_CODES | {"unauthorized"}


class CannotConnectError(Exception):
    """No reply came, and nothing was changed. The message says why."""


class OutcomeUnknownError(Exception):
    """A write was sent, and its reply did not come. Sending the same request again, with its ids, settles it.

    ``interrupted`` is True if Ctrl-C ended the wait for the reply.
    """

    interrupted = False


class _NotWelcomeError(Exception):
    """The daemon refused the token."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


class _LostError(CannotConnectError):
    """The connection broke. A new one may work."""


class Client:
    """A client of the daemon at ``where``, with at most one connection.

    It connects for the first request, and again after the connection was lost. ``timeout`` is in seconds, above 0. It
    bounds every wait except that for the changes that ``stream`` yields. If there is a ``token``, it is sent first.
    """

    def __init__(self, where: Where, timeout: float, token: Token | None = None) -> None:
        self.where = where
        self.timeout = timeout
        self.token = token
        self._socket: socket.socket | None = None
        self._received = bytearray()

    def ask(self, request: Request) -> Reply:
        """Send a request and return its reply, within ``timeout`` seconds in all.

        The request gets the id of what it creates here, unless it has one. If the connection breaks, a repeatable
        request is sent once more, with the same id, so that the daemon carries it out once. Any other is sent once.

        Raises CannotConnectError if no reply came and nothing was changed, and OutcomeUnknownError if the request may
        have been carried out. Ctrl-C raises KeyboardInterrupt, or OutcomeUnknownError once a write was sent.
        """
        _mint(request)
        frame = encode(request) + b"\n"
        deadline = time.monotonic() + self.timeout
        # Whether an attempt that got no reply may have been carried out.
        maybe_done = False
        why = ""
        self._close_if_stale()
        for _ in range(ATTEMPTS_MAX if request.repeatable else 1):
            sent = False
            try:
                self._ensure_connected(deadline)
                sent = request.writes
                self._send(frame, deadline)
                reply = self._receive(request, deadline)
            except _NotWelcomeError as refused:
                reply = refused.reply
            except CannotConnectError as error:
                self.close()
                maybe_done = maybe_done or sent
                why = str(error)
                if isinstance(error, _LostError):
                    continue
                break
            except KeyboardInterrupt:
                # The reply may still come. It must not be taken for the reply to the next request.
                self.close()
                if maybe_done or sent:
                    raise _interruption() from None
                raise
            if not isinstance(reply, ErrorReply):
                return reply
            if reply.code == "unauthorized":
                # The token may be another one by now. The next request begins with it, on a new connection.
                self.close()
            if reply.code == "idle_timeout":
                # The daemon closed the connection before it saw this request.
                self.close()
            elif not (maybe_done and reply.code in NOT_DONE_CODES):
                return reply
            why = reply.message
        if maybe_done:
            raise OutcomeUnknownError(why)
        raise CannotConnectError(why)

    def ask_all(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Reply]]:
        """Yield each request with its reply, in order. Up to REQUESTS_AT_ONCE_MAX are sent together to share a commit.

        All of them must be repeatable: what got no reply, or was not carried out, is sent once more by itself. Each
        request may take ``timeout`` seconds. Raises what ``ask`` raises; the requests that were yielded are done.
        """
        rest = iter(requests)
        while batch := list(islice(rest, REQUESTS_AT_ONCE_MAX)):
            assert all(request.repeatable for request in batch)
            for request in batch:
                _mint(request)
            yield from self._ask_together(batch)

    def _ask_together(self, batch: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        replies = self._exchange_all(batch)
        for position, request in enumerate(batch):
            reply = replies[position] if position < len(replies) else None
            if reply is None or (isinstance(reply, ErrorReply) and reply.code in AGAIN_CODES):
                reply = self._ask_again(request, maybe_done=request.writes and reply is None)
            yield request, reply

    def _exchange_all(self, batch: Sequence[Request]) -> list[Reply]:
        """Send all, and return the replies that came: fewer than requests if the connection broke or time ran out."""
        deadline = time.monotonic() + self.timeout
        self._close_if_stale()
        try:
            self._ensure_connected(deadline)
        except _NotWelcomeError as refused:
            return [refused.reply] * len(batch)
        replies: list[Reply] = []
        try:
            self._send(b"".join(encode(request) + b"\n" for request in batch), deadline)
            for request in batch:
                replies.append(self._receive(request, deadline))
        except CannotConnectError:
            self.close()
        except KeyboardInterrupt:
            self.close()
            raise _interruption() from None
        return replies

    def _ask_again(self, request: Request, *, maybe_done: bool) -> Reply:
        """Ask once more. ``maybe_done``: it may have been carried out the first time, whatever happens now."""
        try:
            reply = self.ask(request)
        except CannotConnectError as error:
            if maybe_done:
                raise OutcomeUnknownError(str(error)) from None
            raise
        if maybe_done and isinstance(reply, ErrorReply) and reply.code in NOT_DONE_CODES:
            raise OutcomeUnknownError(reply.message)
        return reply

    def stream(self, request: Request) -> Generator[Reply, None, NoReturn]:
        """Yield the replies to a request that has many, until the caller closes the generator.

        The daemon may have nothing to say until something changes, so a ``ping`` goes first: it has to be answered
        within ``timeout`` seconds. After that, the wait has no bound. A ``pong`` only says that the daemon is still
        there, and is not yielded. Raises CannotConnectError when no more replies can come.
        """
        self.close()
        deadline = time.monotonic() + self.timeout
        try:
            self._ensure_connected(deadline)
            self._send(encode(Ping()) + b"\n" + encode(request) + b"\n", deadline)
            first = self._receive(Ping(), deadline)
            if isinstance(first, ErrorReply):
                yield first
            while True:
                reply = self._receive(request, None)
                if not isinstance(reply, PongReply):
                    yield reply
        except _NotWelcomeError as refused:
            yield refused.reply
            raise CannotConnectError(refused.reply.message) from None
        except _LostError:
            message = f"the connection to {self.where} is lost, and no more changes come. Is ticketd running?"
            raise CannotConnectError(message) from None
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket:
            self._socket.close()
        self._socket = None
        self._received.clear()

    def _close_if_stale(self) -> None:
        # No request waits for its reply. If there is anything to read, the daemon has closed the connection and says
        # why, or the server is not ticketd.
        if self._socket and (self._received or has_input(self._socket, self.where)):
            self.close()

    def _ensure_connected(self, deadline: float) -> None:
        if self._socket:
            return
        try:
            self._socket = open_connection(self.where, _left(deadline))
        except NotTrustedError as error:
            raise CannotConnectError(f"cannot talk to {self.where}: {error}") from None
        except UnknownHostError as error:
            raise CannotConnectError(f"cannot reach {self.where} ({error}); check --host (TICKETD_HOST)") from None
        except CannotOpenError as error:
            raise CannotConnectError(f"cannot reach {self.where} ({error}). Is ticketd running?") from None
        if self.token:
            try:
                self._authenticate(self._socket, self.token, deadline)
            except BaseException:
                # No request may go where nobody has said who this is.
                self.close()
                raise

    def _authenticate(self, connection: socket.socket, token: Token, deadline: float) -> None:
        """Say who this is. Raises _NotWelcomeError if the daemon does not know."""
        if not (token.may_be_read or is_private(connection, self.where)):
            raise CannotConnectError(
                f"the token would go to {self.where} unencrypted, for others to read; use --tls, or --plain-token"
            )
        auth = Auth(token.secret)
        self._send(encode(auth) + b"\n", deadline)
        reply = self._receive(auth, deadline)
        if isinstance(reply, ErrorReply):
            raise _NotWelcomeError(reply)

    def _send(self, frames: bytes, deadline: float) -> None:
        assert self._socket is not None
        try:
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(frames)
        except TimeoutError:
            raise self._no_reply() from None
        except OSError as error:
            raise self._broken(error) from None

    def _receive(self, request: Request, deadline: float | None) -> Reply:
        """Return the reply to a request: one of the kinds that it expects, or an error.

        Without a deadline, wait as long as the connection lasts.
        """
        try:
            reply = decode_reply(self._receive_line(deadline))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._not_ticketd() from None
        except MemoryError:
            raise CannotConnectError(f"there is not enough memory for the reply of {self.where}") from None
        if not isinstance(reply, (ErrorReply, *request.expects)):
            kind, command = (str(each.__struct_config__.tag) for each in (reply, request))
            raise self._not_ticketd(f": it answers {command} with {kind}")
        return reply

    def _receive_line(self, deadline: float | None) -> bytes:
        assert self._socket is not None
        searched = 0
        try:
            while (end := self._received.find(b"\n", searched)) < 0:
                searched = len(self._received)
                if searched > REPLY_BYTES_MAX:
                    raise self._not_ticketd(f": its reply has more than {REPLY_BYTES_MAX} bytes")
                self._socket.settimeout(None if deadline is None else _left(deadline))
                chunk = self._socket.recv(RECEIVE_BYTES)
                if not chunk:
                    raise _LostError(f"{self.where} closed the connection without a reply")
                self._received += chunk
        except TimeoutError:
            raise self._no_reply() from None
        except OSError as error:
            raise self._broken(error) from None
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _not_ticketd(self, why: str = "") -> CannotConnectError:
        return CannotConnectError(f"what answers at {self.where} does not speak ticketd's protocol{why}")

    def _no_reply(self) -> CannotConnectError:
        return CannotConnectError(f"no reply from {self.where} within {self.timeout:g} s")

    def _broken(self, error: OSError) -> _LostError:
        return _LostError(f"the connection to {self.where} broke ({error.strerror or error})")


def _left(deadline: float) -> float:
    """Return how many seconds are left; raise TimeoutError if none are."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _interruption() -> OutcomeUnknownError:
    error = OutcomeUnknownError("interrupted before the reply came")
    error.interrupted = True
    return error


def _mint(request: Request) -> None:
    # Imported here, because a command that only reads starts faster without it.
    if request.writes:
        from ticketd.ids import mint

        mint(request)
