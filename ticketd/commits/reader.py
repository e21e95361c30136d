"""Owns the queue of requests that only read the ledger, and answers them between commits, in slices.

A slice is bounded by rows, and so is the delay of the next commit. Between two slices the loop goes round once, so that
a commit that was requested meanwhile can begin. A client with more requests than a slice submits the rest again, behind
the other clients. While the ledger cannot be reached, all wait.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct

from ticketd.commits.activity import Activity
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.clients import BUG, BUSY, SHUTTING_DOWN, UNREACHABLE, Client
from ticketd.config import RETRY_AFTER_SECONDS
from ticketd.ledger.base import ROWS_PER_SLICE, Answers, Ledger, LedgerFailedError, LedgerUnavailableError
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import ErrorReply

log = logging.getLogger(__name__)

UNAVAILABLE_RETRY_SECONDS = 0.1


class Reading(Struct, eq=False):
    """The reading requests of one client, and when they ``arrived``, in seconds of the loop's clock."""

    client: Client
    requests: Sequence[LedgerRequest]
    arrived: float


class Reader:
    """Reads for clients. ``failed`` is called with the error when the ledger cannot be trusted any more."""

    def __init__(
        self, ledger: Ledger, catalogue: Catalogue, activity: Activity, failed: Callable[[LedgerFailedError], None]
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._activity = activity
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Reading] = deque()
        self._scheduled = False
        self._closed = False
        # Whether the last try could not reach the ledger, and whether it is too early for the next.
        self._unreachable = False
        self._backing_off = False

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, client: Client, requests: Sequence[LedgerRequest]) -> None:
        """Answer the first of the requests, and more if they fit into a slice, after this has returned."""
        if self._closed:
            self._loop.call_soon(client.deliver, [ErrorReply("shutting_down", SHUTTING_DOWN)])
            return
        self._waiting.append(Reading(client, requests, self._loop.time()))
        self.schedule()

    def schedule(self) -> None:
        """Read a slice in the next round of the loop, if requests wait and the ledger can read."""
        if self._waiting and not self._scheduled and self._can_read():
            self._scheduled = True
            self._loop.call_soon(self._read_scheduled)

    def read_slice(self) -> None:
        """Read a slice now, if requests wait and the ledger can read."""
        rows = 0
        while self._waiting and rows < ROWS_PER_SLICE and self._can_read():
            reading = self._waiting.popleft()
            try:
                answers = self._ledger.read(reading.requests, partial(self._done, reading))
            except Exception as error:
                self._done(reading, error)
            else:
                if answers is not None:
                    rows += answers.rows
                    self._answer(reading, answers)

    def refuse_late(self, oldest: float) -> None:
        """Refuse requests that arrived before ``oldest``, in seconds of the loop's clock."""
        while self._waiting and self._waiting[0].arrived < oldest:
            reading = self._waiting.popleft()
            message = UNREACHABLE if self._unreachable else BUSY
            refusal = ErrorReply("busy", message, retry_after=RETRY_AFTER_SECONDS)
            reading.client.deliver([refusal for _ in reading.requests])

    def close(self) -> None:
        """Refuse all requests, those that wait and those that come."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().client.deliver([ErrorReply("shutting_down", SHUTTING_DOWN)])

    def _can_read(self) -> bool:
        return self._ledger.can_read and not self._backing_off

    def _read_scheduled(self) -> None:
        self.read_slice()
        self._loop.call_soon(self._end_pause)

    def _end_pause(self) -> None:
        self._scheduled = False
        self.schedule()

    def _retry(self) -> None:
        self._backing_off = False
        self.schedule()

    def _done(self, reading: Reading, result: Answers | Exception) -> None:
        match result:
            case LedgerFailedError():
                self._waiting.appendleft(reading)
                self._failed(result)
                self.close()
                return
            case LedgerUnavailableError() if not self._closed:
                self._waiting.appendleft(reading)
                self._unreachable = self._backing_off = True
                self._loop.call_later(UNAVAILABLE_RETRY_SECONDS, self._retry)
                return
            case LedgerUnavailableError():
                reading.client.deliver([ErrorReply("shutting_down", SHUTTING_DOWN)])
            case Exception() if len(reading.requests) > 1:
                # Try the first request alone, so that only the one with the bug gets the error.
                self._waiting.appendleft(Reading(reading.client, reading.requests[:1], reading.arrived))
                self.schedule()
                return
            case Exception():
                log.error("a bug: %r", reading.requests, exc_info=result)
                reading.client.deliver([ErrorReply("internal", BUG)])
            case _:
                self._answer(reading, result)
        self.schedule()

    def _answer(self, reading: Reading, answers: Answers) -> None:
        self._unreachable = False
        # After these replies, ``list`` must not show an earlier state of the same events.
        self._catalogue.publish(answers.events)
        self._activity.count_requests(reading.requests[: len(answers.replies)])
        reading.client.deliver(answers.replies)
