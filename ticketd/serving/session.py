"""Owns the order of requests and replies on a connection. Sans-I/O: knows no sockets, deadlines or ledger.

The caller feeds it bytes with ``receive`` and calls ``step`` until that returns "input" or "end". After each step it
sends the ``output``, does what the step says, and feeds the result with ``receive_replies``.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UnsetType

from ticketd.config import Limits
from ticketd.errors import TicketError
from ticketd.rules.commands import TABLE
from ticketd.rules.memory import Memory
from ticketd.rules.showing import hide_names
from ticketd.serving.access import Gate, allowed
from ticketd.wire import codec, foreign, words
from ticketd.wire.lines import BLANK_AND_LF, Lines
from ticketd.wire.replies import BookingReply, ErrorReply, Reply, WelcomeReply, error_reply
from ticketd.wire.requests import Auth, Request
from ticketd.wire.roles import SAY_WHO_AT_ONCE

# After this much output, it must be sent before more replies are made.
_OUTPUT_BYTES = 256 * 1024

# The first line of somebody who has not said who they are.
STRANGER_BYTES_MAX = 1_024

_BRACE = ord("{")
_TLS = "this port does not speak TLS; connect without it, as ticketctl does without --tls"

_encode_lines = msgspec.json.Encoder().encode_lines


# What the caller must do next. Requests are in ``Session.group``.
Step = Literal[
    "input",  # receive more input, or its end
    "commit",  # submit the group to the committer, then receive the replies
    "read",  # submit the group to the reader, then receive the replies to its first requests
    "expire",  # end due holds, so that they are not shown as held, then receive no replies
    "watch",  # stream what the group's only request asks for; of a booking, the first reply is in the output
    "share",  # wait for the fair share, then set ``has_share``
    "end",  # close the connection, after sending the ``final_error`` if there is one
]


class Session:
    """The requests and replies of one connection. ``memory`` answers what needs no ledger.

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
        # Requests that are not answered yet, in order. A line, a reply, stands for one that needs no more.
        self._unanswered: deque[Request | bytes] = deque()
        # Whether any request had a tag.
        self._tagged = False
        # Whether due holds were ended for the first of them.
        self._expired = False
        self._input_over = False
        self.group: list[Request] = []
        # The booking that the group's only request watches, as it was read; None if that watches events.
        self.watched: BookingReply | None = None
        # Whether it is read, and the next step is to stream it.
        self._watch_begins = False
        # The estimated cost of the group.
        self.rows = 0
        # Whether the replies to the group may name people, and must not.
        self._hides_names = False
        # Bytes to send: joined, they are whole lines.
        self.output: list[bytes | memoryview] = []
        self.has_share = True
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

    @property
    def sees_names(self) -> bool:
        """Whether whoever it is may see who did what."""
        return self._gate is None or self._gate.sees_names

    def may_watch(self) -> bool:
        """Whether whoever it is may still watch what is being streamed. Only after the step "watch"."""
        return self.watched is None or self._refusal_from_ledger(self.group[0]) is None

    def receive_replies(self, replies: Sequence[Reply]) -> None:
        """Take in replies to the first requests of the group: at least one, but none after the step "expire"."""
        if self._hides_names:
            hide_names(replies)
        if replies and len(replies) == len(self.group) and self.group[-1].streams:
            # If it is refused, the conversation goes on.
            self._watch_begins = isinstance(replies[-1], BookingReply)
            self.watched = replies[-1] if isinstance(replies[-1], BookingReply) else None
        if self._tagged:
            for reply in replies:
                request = self._unanswered.popleft()
                assert isinstance(request, Request)
                self._append(reply, request.tag)
        elif replies:
            for _ in replies:
                self._unanswered.popleft()
            self.output.append(_encode_lines(replies))

    def step(self) -> Step:
        """Answer from memory as far as possible, and return what the caller must do next."""
        if self._watch_begins:
            self._watch_begins = False
            self.group = self.group[-1:]
            return "watch"
        size = 0
        while True:
            if not self._unanswered:
                if not self._undecoded:
                    return "end" if self.final_error or self._input_over else "input"
                if not self.has_share:
                    return "share"
                self._decode()
                continue
            request = self._unanswered[0]
            if isinstance(request, bytes):
                self.output.append(request)
                size += len(request)
            else:
                command = TABLE[type(request)]
                in_memory = command.answer is not None and command.in_memory(self._memory, request)
                if command.decide and not in_memory:
                    # Holds were ended for this request, not for the next one.
                    self._expired = False
                    return self._make_group("commit")
                if command.shows_events and not self._expired and self._memory.has_due_holds():
                    self._expired = True
                    return "expire"
                self._expired = False
                if command.read and not in_memory:
                    if refusal := self._refusal_from_ledger(request):
                        self._note_refusal(request, refusal)
                        self._unanswered[0] = codec.error_line(refusal)
                        continue
                    return self._make_group("read")
                self._memory.answered[type(request)] += 1
                try:
                    assert command.answer
                    answer: Reply | bytes = command.answer(self._memory, request)
                    if request.streams:
                        self._unanswered.popleft()
                        self.group, self.watched = [request], None
                        return "watch"
                    if command.decide and isinstance(answer, ErrorReply):
                        self._memory.count_refusal(request, answer)
                except TicketError as error:
                    answer = error_reply(error)
                size += self._append(answer, request.tag)
            self._unanswered.popleft()
            if size > _OUTPUT_BYTES:
                return "share"

    def _make_group(self, step: Step) -> Step:
        """Put the first requests into the group, as far as the same step answers them and one commit takes them."""
        self._hides_names = step == "read" and not self.sees_names
        if len(self._unanswered) == 1 and isinstance(request := self._unanswered[0], Request):
            self.group, self.rows = [request], TABLE[type(request)].cost(self._memory, request)
            return step
        group: list[Request] = []
        rows = listed = 0
        limit = self._limits.rows_per_event_max
        for request in self._unanswered:
            if isinstance(request, bytes):
                break
            command = TABLE[type(request)]
            if step == "commit":
                if command.decide is None:
                    break
                cost = command.cost(self._memory, request)
                if command.tickets_listed:
                    listed += command.tickets_listed(self._memory, request)
                if group and (rows + cost > limit or listed > limit):
                    break
                rows += cost
            elif (
                command.read is None
                or (command.answer and command.in_memory(self._memory, request))
                or self._refusal_from_ledger(request)
            ):
                break
            group.append(request)
            if request.streams:
                break
        self.group, self.rows = group, rows
        return step

    def _append(self, answer: Reply | bytes, tag: str | UnsetType) -> int:
        """Append the answer to a request with this tag to the output, and return its length in bytes."""
        if not isinstance(answer, bytes):
            answer = codec.encode(answer)
        # Separate items, since many connections share the bytes of a long list.
        if tag:
            self.output += (memoryview(answer)[:-1], codec.tag_end(tag))
        else:
            self.output += (answer, b"\n")
        return len(answer)

    def _decode(self) -> None:
        """Decode up to ``frames_in_flight_max`` lines. If more wait, they need the fair share."""
        decoded = 0
        gate = self._gate
        free = gate.free if gate else allowed("admin")
        for decoded in range(1, min(len(self._undecoded), self._limits.frames_in_flight_max) + 1):
            line = self._undecoded.popleft()
            refusal: TicketError | None = None
            try:
                request = codec.decode(line) if line[0] == _BRACE else self._decode_words(line)
                if type(request) is Auth and self._unanswered:
                    # What came before it is answered as to whoever sent that, and done in their name.
                    self._undecoded.appendleft(line)
                    decoded -= 1
                    break
                self._greeted = True
                if request.tag:
                    self._tagged = True
                if type(request) in free:
                    self._unanswered.append(request)
                    continue
                self._unanswered.append(self._admitted(request))
                # It may have been an Auth.
                free = gate.free if gate else free
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
