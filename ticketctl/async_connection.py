"""One asyncio connection to the daemon: a transport around a ``Conversation``, which many calls share.

**No call ever gets the reply to another one.** Each stands in the order of its request, also once its caller has gone:
then its reply is dropped when it comes.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from ticketctl.async_link import open_transport
from ticketctl.link import CannotOpenError, Token, Where
from ticketctl.protocol import (
    REQUESTS_IN_FLIGHT_MAX,
    Conversation,
    NoReply,
    Outcome,
    broken,
    closed_without_reply,
    too_late,
)
from ticketd.wire.requests import Request

Future = asyncio.Future[Outcome]
# The future of a caller; until when it waits; until when the daemon must have answered, also if the caller has gone.
Call = tuple[Future, float, float]


class AsyncConnection(asyncio.Protocol):
    """A connection to the daemon at ``where``. It is opened at once; what is sent meanwhile waits for that.

    ``answered`` is called for each request that is no longer in flight. A reply that is overdue closes the connection,
    also if its caller has gone: it stands in the way of the others.
    """

    def __init__(self, where: Where, token: Token | None, timeout: float, answered: Callable[[], None]) -> None:
        self._where = where
        self._token = token
        self._timeout = timeout
        self._answered = answered
        self._conversation: Conversation[Call] = Conversation(where, token)
        self._loop = asyncio.get_running_loop()
        self._open_by = self._loop.time() + timeout
        self._transport: asyncio.Transport | None = None
        self._opening = self._loop.create_task(self._open())
        self._flush_is_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self.is_open = True
        self._closed = self._loop.create_future()

    @property
    def has_room(self) -> bool:
        """Whether it takes another request."""
        return self.is_open and not self._conversation.is_over and len(self._conversation) < REQUESTS_IN_FLIGHT_MAX

    def send(self, request: Request, deadline: float) -> Future:
        """Send a request, together with all others of this round of the loop. Return the future outcome.

        If that is cancelled before then, it is not sent; after that, it changes nothing. Raises RefusedError if it is
        too long.
        """
        future: Future = self._loop.create_future()
        self._conversation.add(request, (future, deadline, self._loop.time() + self._timeout))
        if self._transport and not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        return future

    def end(self, failure: NoReply) -> None:
        """Close it. What is in flight gets no reply; ``failure`` says why."""
        if not self.is_open:
            return
        self.is_open = False
        self._opening.cancel()
        if self._alarm:
            self._alarm.cancel()
        if self._transport:
            self._transport.abort()
        now = self._loop.time()
        for (future, deadline, _), sent in self._conversation.end():
            if not future.done():
                why = failure if deadline > now else too_late(self._where, self._timeout)
                future.set_result(NoReply(str(why), sent=sent, again=why.again))
            self._answered()

    async def wait_closed(self) -> None:
        """Return once nothing is left of it, after its end."""
        await asyncio.wait([self._opening])
        if self._transport:
            await self._closed

    def data_received(self, data: bytes) -> None:
        """Hand each reply to whoever waits for it."""
        if not self.is_open:
            return
        try:
            for (future, _, _), reply in self._conversation.receive(data):
                if not future.done():
                    future.set_result(reply)
                self._answered()
        except NoReply as failure:
            self.end(failure)
            return
        if len(self._conversation):
            # If this was the welcome, they may go now.
            self._flush()
        elif not self._conversation.is_reusable:
            self.end(closed_without_reply(self._where))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait."""
        self.end(broken(self._where, error) if error else closed_without_reply(self._where))
        self._closed.set_result(None)

    async def _open(self) -> None:
        try:
            self._transport = await open_transport(self._where, self._token, lambda: self)
        except CannotOpenError as error:
            self.end(NoReply(str(error)))
        else:
            self._flush()

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._transport and self.is_open:
            if gone := [call for call in self._conversation.unsent if call[0].done()]:
                self._withdraw(gone)
            self._transport.write(self._conversation.take())

    def _withdraw(self, calls: Sequence[Call]) -> None:
        self._conversation.withdraw(calls)
        for _ in calls:
            self._answered()

    def _set_alarm(self, deadline: float) -> None:
        if self._alarm:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self._loop.call_at(deadline, self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        now = self._loop.time()
        in_flight, unsent = self._conversation.in_flight, self._conversation.unsent
        is_ready = self._transport is not None and self._conversation.is_welcome
        # The first in flight was sent first.
        overdue_at = in_flight[0][2] if in_flight else math.inf if is_ready else self._open_by
        if overdue_at <= now:
            self.end(NoReply(f"{self._where} answers nothing, so the connection was closed", again=True))
            return
        late = [call for call in unsent if call[1] <= now]
        self._withdraw(late)
        for future, _, _ in late:
            if not future.done():
                future.set_result(too_late(self._where, self._timeout))
        for future, deadline, _ in in_flight:
            if deadline <= now and not future.done():
                failure = too_late(self._where, self._timeout)
                failure.sent = True
                future.set_result(failure)
        waiting = [deadline for future, deadline, _ in (*in_flight, *self._conversation.unsent) if not future.done()]
        if (earliest := min([overdue_at, *waiting])) < math.inf:
            self._set_alarm(earliest)
