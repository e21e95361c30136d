"""Owns a served connection: runs the steps that its ``Session`` returns, with their deadlines. Knows no commands.

It is driven by callbacks of the transport, the committer and others: there is no task per step, and no future per
request. At any time it waits for one thing (``_waiting_for``); the callback that brings it calls ``_advance``.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

from ticketd.deadline import Deadline
from ticketd.errors import TicketError
from ticketd.serving.accepting import Accepted
from ticketd.serving.identity import Identity
from ticketd.serving.service import Service
from ticketd.serving.session import Session, Step
from ticketd.serving.stream import READ_BYTES, Stream
from ticketd.serving.watching import Watching
from ticketd.wire.replies import Reply

# Input of at most this size is decoded at once; more must wait for the fair share.
AT_ONCE_LINES_MAX = 16
AT_ONCE_BYTES_MAX = 4 * 1024
# Replies of at most this size are sent at once; more must wait for the fair share too.
AT_ONCE_OUTPUT_BYTES_MAX = 32 * 1024

# "share" is the fair share, "room" is room in the write buffer, and "nothing" means that steps are being run.
_WaitingFor = Literal["input", "replies", "share", "room", "nothing", "ended"]
_Step = Step | Literal["watch now"]


class Connection(Stream):
    """A connection with a session. ``serve`` is awaited at most once, then ``close_gracefully``."""

    def __init__(self, accepted: Accepted, service: Service) -> None:
        super().__init__(accepted, service.limits.write_seconds_max)
        self._service = service
        # See Client.
        self.actor: str | None = None
        self._identity = Identity(accepted, service, self._set_actor)
        self._limits = service.limits
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._waiting_for: _WaitingFor = "nothing"
        # The step to take after the wait for room, or for the fair share.
        self._pending_step: _Step | None = None
        self._deadline = Deadline(self._deadline_passed)
        # When the incomplete line began, in seconds of the loop's clock.
        self._line_began: float | None = None
        # The bytes in the write buffer when the wait for room began.
        self._unsent_before = 0
        self._watching: Watching | None = None
        self._interruption: TicketError | None = None
        self._ended: asyncio.Future[None] | None = None

    def _set_actor(self, name: str | None) -> None:
        self.actor = name

    async def serve(self) -> None:
        """Serve until the client ends its input, a deadline passes, or ``interrupt`` is called.

        Raises TicketError for an error to send before closing, ConnectionResetError if the client is gone, or a bug.
        """
        if self.lost.done():
            # Lost while it waited for a place.
            raise ConnectionResetError
        self._ended = self._loop.create_future()
        self._identity.enter(self._make_room)
        gate = self._identity.gate
        self._session = Session(self._service, self._limits, gate, takes_words=self._service.takes_words)
        self._advance()
        try:
            await self._ended
        finally:
            # Its exception would keep this frame alive, and with it this connection.
            self._ended = None
            self._clear()

    def deliver(self, replies: Sequence[Reply]) -> None:
        """Take the replies to what was submitted. Does not raise, even if the client is gone."""
        if self._waiting_for == "replies" and self._session:
            self._waiting_for = "nothing"
            self._advance(replies=replies)

    def interrupt(self, error: TicketError) -> None:
        """Let ``serve`` raise the error, after all requests that were read before are answered."""
        self._interruption = error
        if self._waiting_for == "input":
            self._end(error)

    def recheck(self) -> bool:
        """After the access list was replaced: end this and return False if whoever it is may do nothing any more."""
        if not self._identity.refresh():
            message = "your access was taken back; ask for another token"
            self.interrupt(TicketError("unauthorized", message, unasked=True))
            return False
        if self._watching and self._session and not self._session.may_watch():
            message = "your role does not allow what you watch any more; ask for another one"
            self.interrupt(TicketError("unauthorized", message, unasked=True))
            return True
        if self._waiting_for == "input" and self._session:
            # Who was a stranger, and may stay now, has more time.
            self._set_input_deadline(self._session)
        return True

    def _make_room(self, error: TicketError) -> None:
        """End this, since others came who have not said who they are either."""
        if self._waiting_for == "ended":
            # They were told already why it ends.
            self.abort()
        elif self._waiting_for == "replies":
            # What is done is answered.
            self.interrupt(error)
        else:
            self.turn_out(error)
            self._end(None)

    def _advance(self, data: bytes = b"", replies: Sequence[Reply] = (), *, has_share: bool = False) -> None:
        """Take the input or the replies, then run steps until one has to wait. An exception ends ``serve``."""
        try:
            session = self._session
            assert session
            if data:
                self._feed(session, data)
            elif replies:
                session.receive_replies(replies)
            while self._waiting_for == "nothing":
                step = self._pending_step or session.step()
                self._pending_step = None
                if self.congested and step in ("watch", "watch now"):
                    # The client has not taken what came before.
                    self._wait_for_room(step)
                    return
                if self._watching and (step not in ("input", "watch now") or session.output):
                    self._stop_watching()
                if session.output:
                    if not has_share and sum(map(len, session.output)) > AT_ONCE_OUTPUT_BYTES_MAX:
                        self._wait_for_share(step)
                        return
                    self.send(session.output)
                    session.output = []
                    if self.congested:
                        self._wait_for_room(step)
                        return
                    if has_share and step == "share":
                        has_share = False
                        continue
                has_share = False
                if step == "commit":
                    self._waiting_for = "replies"
                    self._service.committer.submit(self, session.group, session.rows)
                else:
                    self._run_step(session, step)
        except Exception as error:
            self._end(error)

    def _run_step(self, session: Session, step: _Step) -> None:
        if step == "input":
            self._wait_for_input(session)
        elif step == "read":
            self._waiting_for = "replies"
            self._service.committer.reader.submit(self, session.group)
        elif step == "expire":
            self._waiting_for = "replies"
            self._service.committer.expiry.end_for(self)
        elif step == "share":
            self._wait_for_share()
        elif step == "watch":
            self._watching = Watching(self._service, self, session, self.interrupt)
            if not self._watching.has_state:
                self._wait_for_share("watch now")
        elif step == "watch now":
            self._send_state()
        else:
            # Whoever was interrupted is told why.
            self._end(session.final_error and (self._interruption or session.final_error))

    def _wait_for_input(self, session: Session) -> None:
        """Feed input that has arrived already, or wait for more."""
        if self._interruption:
            raise self._interruption
        if self.input:
            self._feed(session, self.take_input())
            return
        if self.input_over:
            session.receive_end()
            return
        self._waiting_for = "input"
        self._set_input_deadline(session)

    def _set_input_deadline(self, session: Session) -> None:
        now = self._loop.time()
        if session.lines.pending:
            if self._line_began is None:
                self._line_began = now
            self._deadline.set(min(self._line_began + self._limits.frame_seconds_max, self._identity.known_by))
        elif self._watching:
            # A watcher may send nothing for days.
            self._deadline.clear()
        else:
            self._deadline.set(min(now + self._limits.idle_seconds_max, self._identity.known_by))

    def _feed(self, session: Session, data: bytes) -> None:
        if lines := session.receive(data):
            # The rest is part of a new line, whose time begins when input is awaited again.
            self._line_began = None
            if lines > AT_ONCE_LINES_MAX or len(data) > AT_ONCE_BYTES_MAX:
                self._wait_for_share()

    def _wait_for_share(self, step: _Step | None = None) -> None:
        self._waiting_for, self._pending_step = "share", step
        self._service.fair_share.wait(self._on_share)

    def _on_share(self) -> None:
        if self._waiting_for == "share" and self._session:
            self._waiting_for = "nothing"
            self._session.has_share = True
            self._advance(has_share=True)

    def _wait_for_room(self, step: _Step | None) -> None:
        self._waiting_for, self._pending_step = "room", step
        self._unsent_before = self.transport.get_write_buffer_size()
        self._deadline.set(self._loop.time() + self._limits.write_seconds_max)

    def _send_state(self) -> None:
        assert self._watching
        if state := self._watching.next_state():
            self.send([state])
        if not self._watching.has_state:
            self._wait_for_share("watch now")

    def _stop_watching(self) -> None:
        if self._watching:
            self._watching.stop()
            self._watching = None

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._waiting_for == "input" and len(data) <= READ_BYTES:
            self._waiting_for = "nothing"
            self._advance(data)
        else:
            super().data_received(data)

    def on_input(self) -> None:
        """See Stream."""
        if self._waiting_for == "input":
            self._waiting_for = "nothing"
            self._advance()

    def on_room(self) -> None:
        """See Stream."""
        if self._waiting_for == "room":
            self._waiting_for = "nothing"
            self._advance()

    def on_lost(self) -> None:
        """See Stream."""
        self._end(ConnectionResetError())

    def abort(self) -> None:
        """See Stream."""
        self._deadline.close()
        # Not before: until then a stranger has a place, however little there is to say to them.
        self._identity.leave()
        super().abort()

    def _end(self, error: Exception | None) -> None:
        """Let ``serve`` return, or raise the error."""
        self._clear()
        if self._ended is None or self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            # The traceback would keep the unsent output alive.
            self._ended.set_exception(error.with_traceback(None) if isinstance(error, OSError | TicketError) else error)

    def _clear(self) -> None:
        self._waiting_for = "ended"
        self._session = None
        self._deadline.clear()
        self._stop_watching()

    def _deadline_passed(self) -> None:
        if self._waiting_for == "room":
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent_before:
                # The client is slow, but it reads.
                self._wait_for_room(self._pending_step)
            else:
                self.cut_off(unsent)
        elif self._waiting_for == "input":
            message = f"nothing came for {self._limits.idle_seconds_max:g} s; connect again"
            if self._line_began is not None:
                message = f"a line must end within {self._limits.frame_seconds_max:g} s of its first byte"
            message = self._identity.why_overdue(self._loop.time()) or message
            self.interrupt(TicketError("idle_timeout", message, unasked=True))
