"""The protocol of a client, once: which reply answers which request, and what a request without one means. Sans-I/O.

A ``Conversation`` is one connection: the caller sends the bytes that it gives, and feeds it with those that come. An
``Attempts`` is one request, from its first try to its outcome.
"""

from collections import deque
from collections.abc import Callable, Container, Iterator
from functools import cache
from typing import Generic, TypeVar

import msgspec

from ticketctl.failures import CannotConnectError, NotTicketdError, OutcomeUnknownError, RefusedError
from ticketctl.link import Token, Where
from ticketd.wire.codec import decode_reply, encode
from ticketd.wire.lines import FRAME_BYTES_MAX
from ticketd.wire.replies import REPLY_BYTES_MAX, ErrorReply, Reply, WelcomeReply
from ticketd.wire.requests import Auth, Backup, Request

# How long a call may take, with all its tries.
TIMEOUT_SECONDS = 10.0
# A daemon that is there sends a watcher something every 15 seconds.
SILENCE_SECONDS_MAX = 45.0
# How much is received at once.
RECEIVE_BYTES = 64 * 1024
# How many requests a connection may have in flight. The daemon takes as many of one connection into a commit.
REQUESTS_IN_FLIGHT_MAX = 64
# How often a repeatable request is sent if connections break.
ATTEMPTS_MAX = 2
# How long to wait before another try with a daemon that is busy or gone, if it does not say how long; and at least.
AGAIN_AFTER_SECONDS = 0.5
AGAIN_AFTER_SECONDS_MIN = 0.01

# Codes that mean: try again later.
BUSY_CODES = frozenset({"busy", "too_many_connections", "shutting_down", "storage_full"})
# Codes that promise that this try was not carried out, and tell nothing about an earlier one.
NOT_DONE_CODES = BUSY_CODES | {"idle_timeout", "internal", "unauthorized"}

W = TypeVar("W")


class NoReply(Exception):
    """One try got no reply. It may be raised, or stand in the place of the reply.

    ``sent``: it may have been carried out. ``again``: another connection may work. ``foreign``: what answers is not
    ticketd.
    """

    def __init__(
        self, why: str, *, sent: bool = False, again: bool = False, interrupted: bool = False, foreign: bool = False
    ) -> None:
        super().__init__(why)
        self.foreign = foreign
        self.sent = sent
        self.again = again
        self.interrupted = interrupted


Outcome = Reply | NoReply


def interruption() -> NoReply:
    """Return what became of a try that Ctrl-C ended."""
    return NoReply("interrupted before the reply came", interrupted=True)


def closed_without_reply(where: Where) -> NoReply:
    """Return what became of a try when the daemon closed the connection."""
    return NoReply(f"{where} closed the connection without a reply", again=True)


def broken(where: Where, error: Exception) -> NoReply:
    """Return what became of a try when the connection broke."""
    return NoReply(f"the connection to {where} broke ({getattr(error, 'strerror', None) or error})", again=True)


def too_late(where: Where, seconds: float) -> NoReply:
    """Return what became of a try to which nothing came in time."""
    return NoReply(f"no reply from {where} within {seconds:g} s")


def end_of_stream(where: Where, failure: NoReply | None = None) -> CannotConnectError:
    """Return the error for a stream from which no more replies can come."""
    if failure and failure.foreign:
        return NotTicketdError(str(failure))
    if failure and not failure.again:
        return CannotConnectError(str(failure))
    return CannotConnectError(f"the connection to {where} is lost, and no more changes come. Is ticketd running?")


class Conversation(Generic[W]):
    """The requests and replies of one connection to the daemon at ``where``. A ``token`` is sent before all else.

    Replies come in the order of the requests. With each request the caller hands in something of its own, by which it
    knows the reply: W.
    """

    def __init__(self, where: Where, token: Token | None = None) -> None:
        self._where = where
        self._auth = Auth(token.secret) if token else None
        # Whether requests may be sent: the daemon knows who this is.
        self.is_welcome = token is None
        self._frames: list[bytes] = []
        self._unsent: list[tuple[Request, W]] = []
        self._in_flight: deque[tuple[Request, W]] = deque()
        # The start of a line whose end has not come.
        self._line = bytearray()
        # Whether no more requests should be added: a line came that answers nothing; or the daemon refused what this
        # token may do, and the token may be another one by now.
        self.is_over = False

    def __len__(self) -> int:
        """Return how many requests have no reply."""
        return len(self._in_flight) + len(self._unsent)

    @property
    def is_reusable(self) -> bool:
        """Whether the next line will answer the next request, if there is none now."""
        return not (self._in_flight or self._unsent or self._line or self.is_over)

    @property
    def in_flight(self) -> list[W]:
        """What the caller handed in with each request that was sent, in order."""
        return [waiter for _, waiter in self._in_flight]

    @property
    def unsent(self) -> list[W]:
        """What it handed in with those that were not."""
        return [waiter for _, waiter in self._unsent]

    def add(self, request: Request, waiter: W) -> None:
        """Let a request be sent. Raises RefusedError if it is too long, which would end the connection for all."""
        frame = encode(request)
        if len(frame) > FRAME_BYTES_MAX:
            message = f"a line may have {FRAME_BYTES_MAX} bytes, and this request has {len(frame)}"
            raise RefusedError(ErrorReply("frame_too_long", message))
        self._frames.append(frame + b"\n")
        self._unsent.append((request, waiter))

    def withdraw(self, waiters: Container[W]) -> None:
        """Let requests not be sent. Those that were sent already stay in flight."""
        kept = [number for number, (_, waiter) in enumerate(self._unsent) if waiter not in waiters]
        self._frames = [self._frames[number] for number in kept]
        self._unsent = [self._unsent[number] for number in kept]

    def take(self) -> bytes:
        """Return what is to be sent now. The requests in it may be carried out from now on."""
        if not self.is_welcome:
            auth, self._auth = self._auth, None
            return encode(auth) + b"\n" if auth else b""
        data = b"".join(self._frames)
        self._in_flight += self._unsent
        self._frames.clear()
        self._unsent.clear()
        return data

    def receive(self, data: bytes) -> Iterator[tuple[W, Reply]]:
        """Take in what came, and yield the replies that it completes. Raises NoReply if that is not the protocol."""
        if b"\n" not in data:
            self._line += data
            if len(self._line) > REPLY_BYTES_MAX:
                raise self._too_long()
            return
        lines = (bytes(self._line) + data).split(b"\n")
        self._line[:] = lines.pop()
        for line in lines:
            if len(line) > REPLY_BYTES_MAX:
                raise self._too_long()
            if self._in_flight:
                request, waiter = self._in_flight[0]
                reply = self._decode(line, request, request.expects)
                if isinstance(reply, ErrorReply):
                    if reply.unasked:
                        # It says that the connection ends, and that what has no reply yet was not done.
                        yield from self._refused(reply)
                        return
                    self.is_over |= reply.code == "unauthorized"
                if not request.streams or isinstance(reply, ErrorReply):
                    self._in_flight.popleft()
                yield waiter, reply
            elif self.is_welcome or self._auth:
                # Nothing asked for this line. If it is an error, it is the last one, and nothing will be done.
                if self._unsent:
                    yield from self._refused(self._decode(line, None, ()))
                self.is_over = True
                return
            else:
                reply = self._decode(line, None, (WelcomeReply,))
                if isinstance(reply, ErrorReply):
                    yield from self._refused(reply)
                    return
                self.is_welcome = True
        if len(self._line) > REPLY_BYTES_MAX:
            raise self._too_long()

    def end(self) -> list[tuple[W, bool]]:
        """End it. Return all that will get no reply, in order, and for each whether it may be carried out."""
        rest = [(waiter, True) for waiter in self.in_flight] + [(waiter, False) for waiter in self.unsent]
        self._in_flight.clear()
        self._unsent.clear()
        self._frames.clear()
        return rest

    def _refused(self, reply: Reply) -> Iterator[tuple[W, Reply]]:
        """Let an error answer all that waits: the daemon has done none of it, and takes none of it."""
        self.is_over = True
        yield from ((waiter, reply) for waiter, _ in self.end())

    def _decode(self, line: bytes, asked: Request | None, expected: tuple[type[Reply], ...]) -> Reply:
        try:
            reply = decode_reply(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._foreign() from None
        if not isinstance(reply, expected) and not isinstance(reply, ErrorReply):
            kind, command = reply.__struct_config__.tag, asked.__struct_config__.tag if asked else "what comes first"
            raise self._foreign(f": it answers {command} with {kind}")
        return reply

    def _too_long(self) -> NoReply:
        return self._foreign(f": its reply has more than {REPLY_BYTES_MAX} bytes")

    def _foreign(self, why: str = "") -> NoReply:
        return NoReply(f"what answers at {self._where} does not speak ticketd's protocol{why}", foreign=True)


@cache
def _minter() -> Callable[[Request], None]:
    # Imported once it is needed, because a command that only reads starts faster without it.
    from ticketd.ids import mint

    return mint


class Attempts:
    """The tries of one request: whether it is sent again, and what is known of it in the end.

    It gets the id of what it creates here, unless it has one. If the connection breaks, a repeatable request is sent
    once more, with the same id, so that the daemon carries it out once; any other only if it was not carried out. If
    this is ``patient``, it is also sent again while the daemon is busy.
    """

    def __init__(self, request: Request, *, patient: bool = False) -> None:
        if request.minted:
            _minter()(request)
        self.request = request
        self._is_patient = patient
        self._left = ATTEMPTS_MAX
        self._maybe_done = False

    def pause(self, outcome: Outcome, seconds_left: float) -> float | None:
        """Return how many seconds to wait before the next try, or None if this reply is the last word.

        Raises CannotConnectError or OutcomeUnknownError if there is no reply, and nothing more to try. Raises
        KeyboardInterrupt if Ctrl-C ended a try, and nothing was changed.
        """
        if isinstance(outcome, NoReply):
            return self._pause_without_reply(outcome, seconds_left)
        if not isinstance(outcome, ErrorReply):
            return None
        if self._is_patient and outcome.code in BUSY_CODES:
            seconds = AGAIN_AFTER_SECONDS if outcome.retry_after is None else outcome.retry_after
            if seconds < seconds_left:
                return max(seconds, AGAIN_AFTER_SECONDS_MIN)
        if outcome.code == "idle_timeout" or (self._maybe_done and outcome.code in NOT_DONE_CODES):
            # The daemon closed the connection before it saw this request; or says nothing about an earlier try.
            return self._pause_without_reply(NoReply(outcome.message, again=True), seconds_left)
        return None

    def _pause_without_reply(self, outcome: NoReply, seconds_left: float) -> float:
        self._maybe_done |= outcome.sent and self.request.writes
        self._left -= 1
        if outcome.again and self._left > 0 and seconds_left > 0 and (self.request.repeatable or not self._maybe_done):
            return 0.0
        if self._maybe_done:
            raise OutcomeUnknownError(str(outcome), self.request, interrupted=outcome.interrupted)
        if outcome.interrupted:
            raise KeyboardInterrupt
        why = str(outcome)
        if outcome.sent and isinstance(self.request, Backup):
            why += "; the backup may still be written: send it again with the same name, and the daemon says how it is"
        raise CannotConnectError(why)


def accepted(request: Request, reply: Reply) -> Reply:
    """Return a reply that is no error. Raises RefusedError, or OutcomeUnknownError if the daemon does not know."""
    if not isinstance(reply, ErrorReply):
        return reply
    if reply.code == "outcome_unknown":
        raise OutcomeUnknownError(reply.message, request)
    raise RefusedError(reply)
