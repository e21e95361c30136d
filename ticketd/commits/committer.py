"""Owns the commits: takes batches from the queues, hands them to the ledger, and answers them.

While one commit syncs, the next batch gathers, without a timer: an idle daemon commits each request at once, a busy one
hundreds together. Batches that a ledger commits concurrently never share a queue.

The replies to a batch that changed anything are sent once the ledger has reported it durable. If more waits, the reader
gets a slice and the next commit begins first, so that its sync overlaps with the sending. Other replies go at once.

If the ledger reports an error instead:

- StorageFullError: nothing was done. Requests that need no commit, such as replays, are answered from what is
  committed; all others get ``storage_full``. For RETRY_AFTER_SECONDS, later batches are treated the same.
- LedgerUnavailableError: nothing was done. The batch returns to its queues and is tried again after
  UNAVAILABLE_RETRY_SECONDS. What has waited for ``queue_seconds_max`` gets ``busy``.
- EventsLockedError: nothing was done. The batch returns to its queues; if it had several, it is split.
- OutcomeUnknownError: all get ``outcome_unknown``. If it is a LedgerFailedError, ``run`` raises it: the process ends.
- Anything else is a bug: the submissions are tried again one by one, and the one that fails alone gets ``internal``.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

from ticketd.commits.activity import Activity
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.clients import BUG, SHUTTING_DOWN, STORAGE_FULL, UNKNOWN, Client, InternalClient
from ticketd.commits.expiry import Expiry
from ticketd.commits.health import Health
from ticketd.commits.queues import Batch, Queues, Submission
from ticketd.commits.reader import UNAVAILABLE_RETRY_SECONDS, Reader
from ticketd.config import RETRY_AFTER_SECONDS, Limits
from ticketd.errors import Code
from ticketd.ids import mint
from ticketd.ledger.base import (
    Answers,
    Done,
    EventsLockedError,
    Ledger,
    LedgerFailedError,
    LedgerUnavailableError,
    OutcomeUnknownError,
    SharedLedger,
    StorageFullError,
)
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import ErrorReply, ReadyReply, Reply
from ticketd.wire.requests import Request

log = logging.getLogger(__name__)

# How often ``run`` checks for late submissions.
CHECK_SECONDS = 0.5


class Committer:
    """Commits what is submitted while ``run`` runs. Used from the loop only."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue, limits: Limits, *, logs_each: bool = False) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.held = ledger.held
        self.now = ledger.now
        self._exclusive = not isinstance(ledger, SharedLedger)
        self._queues = Queues(limits, ledger.held, queue_per_connection=not self._exclusive)
        self.activity = Activity(catalogue, ledger.now, logs_each=logs_each)
        self.reader = Reader(ledger, catalogue, self.activity, self._end)
        self._scheduled = False
        self._closing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.health = Health()
        self.expiry = Expiry(ledger, self.health, self._enqueue)

    @property
    def queued(self) -> int:
        """How many submissions wait for a commit, or to be read."""
        return len(self._queues) + len(self.reader)

    def ready(self) -> ReadyReply | ErrorReply:
        """Return whether a commit is possible now, or may be tried; an error says why not. Waits for nothing."""
        if self._closing or self._ended.done():
            return ErrorReply("shutting_down", SHUTTING_DOWN)
        return self.health.why_not_ready(self._loop.time()) or ReadyReply()

    def is_settled(self, event: str) -> bool:
        """Whether nothing in the event's queue can change it, nor another daemon. Cancellations wait elsewhere."""
        return self._exclusive and not self._queues.has(event)

    def submit(self, client: Client, requests: Sequence[LedgerRequest], rows: int) -> None:
        """Queue requests that are decided together, at a cost of about ``rows``. Replies come after this returns."""
        # Ids are minted here, once, so that every try of a request has the same.
        for request in requests:
            if request.minted and isinstance(request, Request):
                mint(request)
        queue = self._queues.choose_queue(requests, client.peer)
        self._enqueue(Submission(client, requests, queue, self._loop.time(), rows, client.actor))

    async def ask(self, requests: Sequence[LedgerRequest], peer: str) -> Sequence[Reply]:
        """Submit requests of the daemon itself, and return their replies."""
        client = InternalClient(peer)
        self.submit(client, requests, len(requests))
        return await client.replies

    def _enqueue(self, submission: Submission) -> None:
        if self._closing:
            self._loop.call_soon(submission.refuse, "shutting_down", SHUTTING_DOWN)
            return
        self._queues.add(submission)
        self._schedule()

    async def run(self) -> None:
        """Run until ``close`` and the last reply. Raises LedgerFailedError or a bug: the process must end then."""
        try:
            while not self._ended.done():
                seconds = min(self.expiry.seconds_to_next(), CHECK_SECONDS)
                await asyncio.wait([self._ended], timeout=max(0.001, seconds))
                self._refuse_late(self._queues.remove_late(self._oldest_allowed()))
                self._end_if_done()
                self.reader.refuse_late(self._oldest_allowed())
                self.activity.log_summary(self._loop.time())
                if self.expiry.is_due():
                    self._schedule()
            self._ended.result()
        finally:
            self._closing = True
            self.activity.log_summary(math.inf)
            for submission in self._queues.remove_late(math.inf):
                submission.refuse("shutting_down", SHUTTING_DOWN)
            self.reader.close()

    def close(self) -> None:
        """Refuse new submissions. ``run`` returns when everything queued is answered."""
        self._closing = True
        self._end_if_done()

    def _oldest_allowed(self) -> float:
        return self._loop.time() - self._limits.queue_seconds_max

    def _refuse_late(self, late: Sequence[Submission]) -> None:
        if late:
            self._refuse(late, "busy", self.health.why_busy(self._loop.time()), RETRY_AFTER_SECONDS)

    def _refuse(
        self, submissions: Sequence[Submission], code: Code, message: str, retry_after: float | None = None
    ) -> None:
        for submission in submissions:
            self.activity.count_refusals(submission.requests, code)
            submission.refuse(code, message, retry_after)

    def _schedule(self) -> None:
        if not self._scheduled and self.health.in_flight < self._ledger.commits_at_once:
            self._scheduled = True
            self._loop.call_soon(self._begin_scheduled)

    def _begin_scheduled(self) -> None:
        self._scheduled = False
        try:
            self._begin_commit()
        except Exception as bug:
            self._end(bug)

    def _begin_commit(self) -> None:
        """Begin the next commit, if there is anything to commit."""
        if self._ended.done() or self.health.in_flight >= self._ledger.commits_at_once or self.health.backing_off:
            return
        batch = self._queues.take_batch(self._oldest_allowed())
        self._refuse_late(batch.late)
        if not batch.submissions and (self._closing or not self.expiry.is_due()):
            self._end_if_done()
            return
        batch.began = perf_counter()
        self.health.note_begin(batch, self._loop.time())
        if self.health.is_full(self._loop.time()):
            self._answer_without_commit(batch)
        else:
            self._call_ledger(lambda requests, done: self._ledger.transact(requests, done, batch.actors()), batch)
        if self._queues.ready:
            self._schedule()

    def _call_ledger(self, method: Callable[[list[LedgerRequest], Done], Answers | None], batch: Batch) -> None:
        done = partial(self._done, batch)
        outcome: Answers | Exception | None
        try:
            outcome = method(batch.requests(), done)
        except Exception as error:
            outcome = error
        batch.decided = perf_counter()
        if outcome is not None:
            done(outcome)

    def _done(self, batch: Batch, outcome: Answers | Exception) -> None:
        self.health.commit_hangs = False
        try:
            if isinstance(outcome, Exception):
                self._handle_error(batch, outcome)
            else:
                self._handle_answers(batch, outcome)
        except Exception as bug:
            self._end(bug)

    def _handle_answers(self, batch: Batch, answers: Answers) -> None:
        """Begin the next commit, then answer this batch, which is durable or needed no commit."""
        ended = perf_counter()
        self.health.note_end(batch)
        self._queues.done(batch)
        self.health.note_success(self._loop.time(), changed=answers.changed)
        if answers.removed:
            self._catalogue.remove(answers.removed)
        self._catalogue.publish(answers.events)
        if answers.changed and self._queues.ready:
            self.reader.read_slice()
            self._begin_commit()
        # Before the replies go out: a client could ask again at once, and its commit would keep the reader waiting.
        self._continue()
        batch.deliver(answers.replies)
        self.activity.record(batch, answers, self._loop.time(), ended)

    def _continue(self) -> None:
        self.reader.schedule()
        if self._queues.ready:
            self._schedule()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closing and not self.health.in_flight and not self._queues.ready:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        """Let ``run`` return, or raise the error. Only the first call counts."""
        if not self._ended.done():
            self._ended.set_exception(error) if error else self._ended.set_result(None)

    def _handle_error(self, batch: Batch, error: Exception) -> None:
        """Answer a batch that failed, or put it back into its queues; see the module's docstring."""
        if isinstance(error, StorageFullError):
            self.health.note_full(error, self._loop.time())
            self._answer_without_commit(batch)
            return
        self.health.note_end(batch)
        match error:
            case EventsLockedError():
                # Other events must not wait for the locked one again.
                self._queues.put_back(batch, alone=len(batch.queues) > 1)
            case LedgerUnavailableError():
                self._retry_later(batch, error)
            case LedgerFailedError():
                # End first: a client may ask again at once, and must not see what the ledger holds now.
                self._end(error)
                self.reader.close()
                self._refuse(batch.submissions, "outcome_unknown", UNKNOWN)
                return
            case OutcomeUnknownError():
                self._refuse(batch.submissions, "outcome_unknown", UNKNOWN)
                log.warning("%s: requests=%d", error, len(batch.requests()))
            case _:
                self._handle_bug(batch, error)
        self._queues.done(batch)
        self._continue()

    def _handle_bug(self, batch: Batch, error: Exception) -> None:
        if not batch.submissions:
            # Only due holds were to end. They stay due, so this would happen again and again.
            self._end(error)
        elif len(batch.submissions) > 1:
            self._queues.put_back(batch, alone=True)
        else:
            log.error("a bug: %r", batch.requests(), exc_info=error)
            self._refuse(batch.submissions, "internal", BUG)

    def _retry_later(self, batch: Batch, error: LedgerUnavailableError) -> None:
        # Those without requests wait for due holds to end, which an unreachable ledger cannot do.
        for submission in batch.remove_empty():
            submission.client.deliver([])
        self._queues.put_back(batch)
        self.health.note_unreachable(error, self._loop.time())
        self._loop.call_later(UNAVAILABLE_RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self.health.backing_off = False
        self._schedule()

    def _answer_without_commit(self, batch: Batch) -> None:
        # Due holds stay held until a commit is possible: only what is durable may be shown.
        self.health.note_blocked(self._loop.time())
        self._call_ledger(lambda requests, done: self._ledger.without_commit(requests, STORAGE_FULL, done), batch)
