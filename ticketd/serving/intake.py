"""Owns what comes in on a connection: bytes become lines, and lines become requests that are allowed. Sans-I/O.

A request that is wrong or not allowed is replaced by the line that refuses it.
"""

from collections import deque

from ticketd.config import Limits
from ticketd.errors import TicketError
from ticketd.rules.memory import Memory
from ticketd.serving.access import Gate, allowed
from ticketd.wire import codec, foreign, words
from ticketd.wire.lines import BLANK_AND_LF, Lines
from ticketd.wire.replies import WelcomeReply, error_reply
from ticketd.wire.requests import Auth, Request
from ticketd.wire.roles import SAY_WHO_AT_ONCE

# The first line of somebody who has not said who they are.
STRANGER_BYTES_MAX = 1_024

_BRACE = ord("{")
_EVERYTHING = allowed("admin")
_TLS = "this port does not speak TLS; connect without it, as ticketctl does without --tls"


class Intake:
    """The requests of one connection. ``memory`` counts them. A subclass, Session, answers them.

    Without a ``gate``, everything is allowed. ``takes_words`` is False if all lines must be JSON.
    """

    def __init__(self, memory: Memory, limits: Limits, gate: Gate | None = None, *, takes_words: bool = True) -> None:
        self._memory = memory
        self._limits = limits
        self._gate = gate
        self._takes_words = takes_words
        self.lines = Lines(STRANGER_BYTES_MAX if gate and gate.is_stranger else limits.frame_bytes_max)
        # Whether the first line has come, so that all lines may be as long as the limit allows.
        self._had_first_line = False
        self._undecoded: deque[bytes] = deque()
        # Whether any line was a valid command. Until then, the client may speak another protocol.
        self._greeted = False
        # Requests that are not answered yet, in order. A reply that is known already stands for its request.
        self._unanswered: deque[Request | bytes] = deque()
        # Whether any request had a tag.
        self._tagged = False
        self._input_over = False
        # Whether more lines may be decoded now. If not, they need the fair share.
        self.has_share = True
        # What the connection ends with, once everything before it is answered.
        self.final_error: TicketError | None = None

    def receive(self, data: bytes) -> int:
        """Take in bytes, and return how many lines they complete. Only after the step "input"."""
        lines = self._feed(data)
        self._undecoded += lines
        if self.lines.too_long and self.final_error is None:
            message = f"a line may have {self.lines.limit} bytes; end each request with a newline"
            self.final_error = TicketError("frame_too_long", message)
        return len(lines)

    def _feed(self, data: bytes) -> list[bytes]:
        if self._had_first_line:
            return self.lines.feed(data)
        # Only the first line has to be short, and may be the greeting of TLS, which need not have an end.
        lines: list[bytes] = []
        while data and not lines and not self.lines.too_long and self.final_error is None:
            if not self.lines.pending:
                data = data.lstrip(BLANK_AND_LF)
                if foreign.is_tls(data):
                    self.final_error = TicketError("bad_frame", _TLS)
                    return []
            line, newline, data = data.partition(b"\n")
            lines = self.lines.feed(line + newline)
        if lines:
            self._had_first_line = True
            self.lines.limit = self._limits.frame_bytes_max
            lines += self.lines.feed(data)
        return lines

    def receive_end(self) -> None:
        """Take in the end of the input. Only after the step "input"."""
        self._input_over = True
        rest = self.lines.end()
        if rest.startswith(b"{"):
            self._undecoded.append(rest)
        elif rest and self.final_error is None:
            message = "the input ended within a line: not done, send it again with a newline"
            self.final_error = TicketError("bad_frame", message)

    def _decode(self) -> None:
        """Decode up to ``frames_in_flight_max`` lines. If more wait, they need the fair share."""
        decoded = 0
        gate = self._gate
        unchecked = gate.unchecked if gate else _EVERYTHING
        for decoded in range(1, min(len(self._undecoded), self._limits.frames_in_flight_max) + 1):
            line = self._undecoded.popleft()
            refusal: TicketError | None = None
            try:
                request = codec.decode(line) if line[0] == _BRACE else self._decode_words(line)
                if type(request) is Auth and self._unanswered:
                    # The requests before it are done, and answered, for whoever the client was until then.
                    self._undecoded.appendleft(line)
                    decoded -= 1
                    break
                self._greeted = True
                if request.tag:
                    self._tagged = True
                if type(request) in unchecked:
                    self._unanswered.append(request)
                    continue
                self._unanswered.append(self._admitted(request))
                # It may have been an Auth.
                unchecked = gate.unchecked if gate else unchecked
            except TicketError as error:
                if other_protocol := foreign.recognized(line, greeted=self._greeted):
                    self._end_after_this(TicketError("bad_frame", other_protocol))
                    break
                refusal = error
            if gate and gate.is_stranger:
                self._end_after_this(refusal or TicketError("unauthorized", SAY_WHO_AT_ONCE, unasked=True))
                break
            if refusal:
                self._unanswered.append(codec.error_line(refusal))
        self._memory.requests += decoded
        if self._undecoded:
            self.has_share = False

    def _end_after_this(self, error: TicketError) -> None:
        self._undecoded.clear()
        self.final_error = error

    def _decode_words(self, line: bytes) -> Request:
        if not self._takes_words:
            raise TicketError("bad_frame", 'this daemon takes only JSON, one object a line, such as {"cmd":"list"}')
        return words.decode(line)

    def _admitted(self, request: Request) -> Request | bytes:
        """Return the request if it is allowed, or the line that answers ``auth``. Raises TicketError."""
        try:
            if type(request) is Auth:
                welcome = self._gate.authenticate(request) if self._gate else WelcomeReply("anybody", "admin")
                self._memory.answered[Auth] += 1
                return codec.tagged(codec.encode(welcome) + b"\n", request.tag)
            if self._gate:
                self._gate.check(request)
        except TicketError as refusal:
            self._note_refusal(request, refusal)
            raise
        return request

    def _note_refusal(self, request: Request, refusal: TicketError) -> None:
        refusal.tag = request.tag or None
        self._memory.answered[type(request)] += 1
        self._memory.count_refusal(request, error_reply(refusal))
        if self._gate:
            self._gate.log_refusal(request, refusal.code)

    def _refusal_from_ledger(self, request: Request) -> TicketError | None:
        if self._gate:
            try:
                self._gate.check_from_ledger(request)
            except TicketError as refusal:
                return refusal
        return None
