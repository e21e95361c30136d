"""A blocking connection to the daemon: a request in, its reply out, with one deadline and a retry that is safe."""

import select
import socket
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NoReturn

import msgspec
from msgspec import UNSET

from ticketd.protocol import (
    Amend,
    Book,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    Hold,
    Ping,
    PongReply,
    Redeem,
    Release,
    Reply,
    Request,
    Restore,
    decode_reply,
    encode,
)

READ_BYTES = 64 * 1024
# What is sent together. So many requests fit into a commit; so many bytes are taken by the buffers of a connection
# even while the daemon waits for its replies to be read.
REQUESTS_AT_ONCE_MAX = 64
BYTES_AT_ONCE_MAX = 32 * 1024

# Codes that mean: this request was certainly not done, and may be when it is sent again.
NOT_DONE_CODES = frozenset(
    {"busy", "too_many_connections", "shutting_down", "storage_full", "idle_timeout", "internal"}
)


class CannotConnectError(Exception):
    """No reply to be had, and nothing was changed; the message says why."""


class OutcomeUnknownError(Exception):
    """A write was sent and its reply did not come. Sending the same request again, with its ids, settles it.

    ``interrupted`` tells that the person did not wait for it.
    """

    interrupted = False


class _LostError(Exception):
    """The connection broke, so that a new one may do better."""


class Client:
    """Connects when it is first asked, and again when the connection was lost. ``timeout`` is in seconds."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self._socket: socket.socket | None = None
        self._received = bytearray()

    @property
    def address(self) -> str:
        """Host and port as people write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def ask(self, request: Request) -> Reply:
        """Return the reply to a request, which may take ``timeout`` seconds.

        What ``book`` and ``create`` make gets its id here, so that the same request can be sent once more when the
        connection breaks: the daemon does it once. Raises CannotConnectError, or OutcomeUnknownError for a write.
        """
        mint(request)
        line = encode(request) + b"\n"
        deadline = time.monotonic() + self.timeout
        # Whether a try that ended without a reply may have been done.
        maybe_done = False
        why = ""
        if self._stale():
            self.close()
        for _ in range(2 if is_repeatable(request) else 1):
            sent = False
            try:
                if self._socket is None:
                    self._connect(deadline)
                sent = is_write(request)
                reply = self._exchange(line, deadline)
            except _LostError as error:
                self.close()
                maybe_done = maybe_done or sent
                why = str(error)
                continue
            except CannotConnectError as error:
                self.close()
                maybe_done = maybe_done or sent
                why = str(error)
                break
            except KeyboardInterrupt:
                # The reply that nobody waits for any more must not be taken for that of the next request.
                self.close()
                if maybe_done or sent:
                    raise _interruption() from None
                raise
            if isinstance(reply, ErrorReply):
                if maybe_done and reply.code in NOT_DONE_CODES:
                    # This try was not done; the one before it may have been.
                    why = reply.message
                    continue
                if reply.code == "idle_timeout":
                    # Said before the daemon saw this request.
                    self.close()
                    why = reply.message
                    continue
            return reply
        if maybe_done:
            raise OutcomeUnknownError(why)
        raise CannotConnectError(why)

    def ask_all(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Reply]]:
        """Yield each request with its reply; many are sent together, so that they share a commit.

        They must be repeatable and have their ids: what got no reply is sent again. Raises what ``ask`` raises.
        """
        batch: list[Request] = []
        lines = bytearray()
        for request in requests:
            line = encode(request) + b"\n"
            if len(batch) == REQUESTS_AT_ONCE_MAX or len(lines) + len(line) > BYTES_AT_ONCE_MAX:
                yield from zip(batch, self._ask_together(batch, lines), strict=True)
                batch, lines = [], bytearray()
            batch.append(request)
            lines += line
        if batch:
            yield from zip(batch, self._ask_together(batch, lines), strict=True)

    def _ask_together(self, requests: Sequence[Request], lines: bytearray) -> list[Reply]:
        deadline = time.monotonic() + self.timeout
        if self._stale():
            self.close()
        if self._socket is None:
            self._connect(deadline)
        replies: list[Reply] = []
        try:
            replies.append(self._exchange(lines, deadline))
            while len(replies) < len(requests):
                replies.append(self._receive(deadline))
        except (_LostError, CannotConnectError):
            self.close()
        except KeyboardInterrupt:
            self.close()
            raise _interruption() from None
        try:
            for position, request in enumerate(requests):
                reply = replies[position] if position < len(replies) else None
                if reply is None or (isinstance(reply, ErrorReply) and reply.code in NOT_DONE_CODES):
                    replies[position : position + 1] = [self.ask(request)]
        except CannotConnectError as error:
            raise OutcomeUnknownError(str(error)) from None
        return replies

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket:
            self._socket.close()
        self._socket = None
        self._received.clear()

    def _stale(self) -> bool:
        # Nothing has been asked, so whatever can be read is the daemon's goodbye.
        return self._socket is not None and bool(select.select([self._socket], [], [], 0)[0])

    def _connect(self, deadline: float) -> None:
        try:
            self._socket = socket.create_connection((self.host, self.port), _left(deadline))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CannotConnectError(f"cannot reach {self.address} ({reason.lower()}). Is ticketd running?") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def stream(self, request: Request) -> Generator[Reply, None, NoReturn]:
        """Yield the replies to a request that has many, until the caller has enough. Raises CannotConnectError.

        A ``ping`` goes before it, since there may be no reply before something changes: within ``timeout`` seconds
        the daemon must show that it is there.
        """
        self.close()
        deadline = time.monotonic() + self.timeout
        try:
            self._connect(deadline)
            first = self._exchange(encode(Ping()) + b"\n" + encode(request) + b"\n", deadline)
            if not isinstance(first, PongReply):
                yield first
            while True:
                yield self._receive(None)
        except _LostError:
            message = f"the connection to {self.address} is lost, and no more changes come. Is ticketd running?"
            raise CannotConnectError(message) from None
        finally:
            self.close()

    def _exchange(self, line: bytes | bytearray, deadline: float) -> Reply:
        assert self._socket is not None
        try:
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(line)
        except TimeoutError:
            raise self._no_reply() from None
        except OSError as error:
            raise self._broken(error) from None
        return self._receive(deadline)

    def _receive(self, deadline: float | None) -> Reply:
        assert self._socket is not None
        searched = 0
        try:
            while (end := self._received.find(b"\n", searched)) < 0:
                searched = len(self._received)
                self._socket.settimeout(None if deadline is None else _left(deadline))
                chunk = self._socket.recv(READ_BYTES)
                if not chunk:
                    raise _LostError(f"{self.address} closed the connection without a reply")
                self._received += chunk
        except TimeoutError:
            raise self._no_reply() from None
        except OSError as error:
            raise self._broken(error) from None
        frame = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            return decode_reply(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise CannotConnectError(f"what answers at {self.address} does not speak ticketd's protocol") from None

    def _no_reply(self) -> CannotConnectError:
        return CannotConnectError(f"no reply from {self.address} within {self.timeout:g} s")

    def _broken(self, error: OSError) -> _LostError:
        return _LostError(f"the connection to {self.address} broke ({error.strerror or error})")


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


def is_write(request: Request) -> bool:
    """Whether the request may change the ledger."""
    return isinstance(request, Book | Hold | Confirm | Release | Cancel | Redeem | Create | Amend | Restore)


def is_repeatable(request: Request) -> bool:
    """Whether sending the request again, with its ids, does what it asks once.

    A ticket that is redeemed twice is refused the second time, and to amend again could undo what somebody else did in
    between: only a person may try these again.
    """
    return not isinstance(request, Amend) and not (isinstance(request, Redeem) and request.at is UNSET)


def mint(request: Request) -> None:
    """Give what the request makes an id, unless it has one."""
    # Imported here, since a command that only reads starts faster without it.
    if isinstance(request, Book | Hold) and request.booking is UNSET:
        from ticketd.ids import new_id

        request.booking = new_id()
    elif isinstance(request, Create) and request.id is UNSET:
        from ticketd.ids import new_event_id

        request.id = new_event_id(request.name)
