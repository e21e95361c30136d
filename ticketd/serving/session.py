"""Owns the order of requests and replies on a connection. Sans-I/O: knows no sockets, deadlines or ledger.

The caller feeds it bytes with ``receive`` and calls ``step`` until that returns "input" or "end". After each step it
sends the ``output``, does what the step says, and feeds the result with ``receive_replies``.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UnsetType

from ticketd.config import Limits
from ticketd.errors import TicketError
from ticketd.rules.commands import TABLE
from ticketd.rules.memory import Memory
from ticketd.rules.showing import hide_names
from ticketd.serving.access import Gate
from ticketd.serving.intake import Intake
from ticketd.wire import codec
from ticketd.wire.replies import BookingReply, ErrorReply, Reply, error_reply
from ticketd.wire.requests import Request

# After this much output, it must be sent before more replies are made.
_OUTPUT_BYTES = 256 * 1024

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


class Session(Intake):
    """The requests and replies of one connection: ``memory`` answers what needs no ledger. See Intake."""

    def __init__(self, memory: Memory, limits: Limits, gate: Gate | None = None, *, takes_words: bool = True) -> None:
        super().__init__(memory, limits, gate, takes_words=takes_words)
        # Whether due holds were ended for the first request.
        self._expired = False
        self.group: list[Request] = []
        # The booking that the group's only request watches, as it was read; None if that watches events.
        self.watched: BookingReply | None = None
        # Whether it is read, and the next step is to stream it.
        self._watch_begins = False
        # The estimated cost of the group.
        self.rows = 0
        # Whether the group reads the ledger.
        self._reads = False
        # Bytes to send: joined, they are whole lines.
        self.output: list[bytes | memoryview] = []

    @property
    def sees_names(self) -> bool:
        """Whether whoever it is may see who did what."""
        return self._gate is None or self._gate.sees_names

    def may_watch(self) -> bool:
        """Whether whoever it is may still watch what is being streamed. Only after the step "watch"."""
        return self.watched is None or self._refusal_from_ledger(self.group[0]) is None

    def receive_replies(self, replies: Sequence[Reply]) -> None:
        """Take in replies to the first requests of the group: at least one, but none after the step "expire"."""
        if self._reads:
            self._receive_what_was_read(replies)
        if self._tagged:
            for reply in replies:
                request = self._unanswered.popleft()
                assert isinstance(request, Request)
                self._append(reply, request.tag)
        elif replies:
            for _ in replies:
                self._unanswered.popleft()
            self.output.append(_encode_lines(replies))

    def _receive_what_was_read(self, replies: Sequence[Reply]) -> None:
        if not self.sees_names:
            hide_names(replies)
        if len(replies) == len(self.group) and self.group[-1].streams:
            # If it is refused, the conversation goes on.
            self._watch_begins = isinstance(replies[-1], BookingReply)
            self.watched = replies[-1] if isinstance(replies[-1], BookingReply) else None

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
        self._reads = step == "read"
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
