"""Owns the queues in which submissions wait for a commit: one per event, first come, first served.

A batch takes a quota from each queue, round robin. So a crowd at one event delays the buyers of another by one commit
at most. Nothing here waits; the time is passed in.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from msgspec import Struct

from ticketd.commits.clients import Client
from ticketd.config import Limits
from ticketd.errors import Code
from ticketd.rules.commands import TABLE
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import ErrorReply, Reply

_actor = attrgetter("actor")


class Submission(Struct, eq=False):
    """Requests that one client submitted together: they are decided in the order sent, in one commit.

    ``queue`` is the name of its queue: the id of an event, or a name that no event can have. ``arrived`` is a time of
    the loop's clock, in seconds. ``rows`` estimates its cost. ``actor`` is who the client was then. ``alone`` says that
    it must be the only one in its batch, because a batch that contained it failed.
    """

    client: Client
    requests: Sequence[LedgerRequest]
    queue: str
    arrived: float
    rows: int
    actor: str | None = None
    alone: bool = False

    def refuse(self, code: Code, message: str, retry_after: float | None = None) -> None:
        """Answer all requests with the same error."""
        self.client.deliver([ErrorReply(code, message, retry_after=retry_after) for _ in self.requests])


@dataclass(slots=True, eq=False)
class Batch:
    """Submissions for one commit, and the names of the ``queues`` that they came from.

    ``late`` are submissions that had waited too long to be included. ``began`` and ``decided`` are times of
    ``perf_counter``, in seconds, since the loop's clock is not exact: when it was taken, and when the ledger had it.
    """

    submissions: list[Submission] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    late: list[Submission] = field(default_factory=list)
    began: float = 0.0
    decided: float = 0.0

    def requests(self) -> list[LedgerRequest]:
        """Return the requests of all submissions, in order."""
        return [request for submission in self.submissions for request in submission.requests]

    def actors(self) -> list[str | None] | None:
        """Return the names of those who sent the requests, in order; None if no name is known."""
        if not any(map(_actor, self.submissions)):
            return None
        return [submission.actor for submission in self.submissions for _ in submission.requests]

    def remove_empty(self) -> list[Submission]:
        """Remove and return the submissions without requests."""
        empty = [submission for submission in self.submissions if not submission.requests]
        self.submissions = [submission for submission in self.submissions if submission.requests]
        return empty

    def deliver(self, replies: Sequence[Reply]) -> None:
        """Give each client its replies, which are in the order of ``requests``."""
        start = 0
        for submission in self.submissions:
            end = start + len(submission.requests)
            submission.client.deliver(replies[start:end])
            start = end


class Queues:
    """All queues. Those of a batch are locked until it is ``done``: no other batch takes from them.

    ``held`` returns the event and quantity of a booking that is held, or None if that is not known.

    Requests whose event is not known share one queue, so that a crowd at the doors does not come before a quiet event.
    With ``queue_per_connection`` each connection has one for them: where other servers may lock an event, the requests
    behind it may be of events that are free.
    """

    def __init__(
        self, limits: Limits, held: Callable[[str], tuple[str, int] | None], *, queue_per_connection: bool
    ) -> None:
        self._limits = limits
        self._held = held
        self._queue_per_connection = queue_per_connection
        # A queue is here while submissions wait in it or are in commit.
        self._queues: dict[str, deque[Submission]] = {}
        # Those that are not locked, from which the next batch may take, in round-robin order.
        self._ready: OrderedDict[str, deque[Submission]] = OrderedDict()

    @property
    def ready(self) -> bool:
        """Whether there is a batch to take."""
        return bool(self._ready)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def _length(self, name: str) -> int:
        return len(self._queues.get(name, ()))

    def choose_queue(self, requests: Sequence[LedgerRequest], peer: str) -> str:
        """Return the name of the queue for requests: the longest queue of their events.

        A shorter one would let them overtake in the longer. If no event is known, the name begins with a slash, as no
        id of an event does.
        """
        if len(requests) == 1:
            # By far the most common case.
            return self._event_of(requests[0]) or self._of_no_event(peer)
        events = {event for event in map(self._event_of, requests) if event is not None}
        if len(events) <= 1:
            return events.pop() if events else self._of_no_event(peer)
        return max(events, key=self._length)

    def _of_no_event(self, peer: str) -> str:
        return f"/{peer}" if self._queue_per_connection else "/"

    def _event_of(self, request: LedgerRequest) -> str | None:
        row = TABLE[type(request)]
        if row.event:
            return row.event(request)
        held = self._held(row.booking(request)) if row.booking else None
        return held and held[0]

    def has(self, name: str) -> bool:
        """Whether submissions of a queue are waiting or in commit."""
        return name in self._queues

    def add(self, submission: Submission) -> None:
        """Put a submission at the end of its queue."""
        name = submission.queue
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = self._ready[name] = deque()
        queue.append(submission)

    def take_batch(self, oldest: float) -> Batch:
        """Take the next batch. Submissions that arrived before ``oldest``, in seconds of the loop's clock, are late.

        The first submission fits whatever it costs. The next batch begins with the queue at which this one was full.
        """
        batch = Batch()
        room = self._limits.rows_per_commit_max
        for _ in range(len(self._ready)):
            name, queue = self._ready.popitem(last=False)
            while queue and queue[0].arrived < oldest:
                batch.late.append(queue.popleft())
            quota = self._limits.rows_per_event_max
            taken = len(batch.submissions)
            while queue and quota > 0:
                submission = queue[0]
                if batch.submissions and (submission.rows > room or submission.alone):
                    break
                batch.submissions.append(queue.popleft())
                quota -= submission.rows
                room = 0 if submission.alone else room - submission.rows
                if room <= 0:
                    break
            full = room <= 0 or (bool(queue) and quota > 0)
            if len(batch.submissions) > taken:
                batch.queues.append(name)
            elif queue:
                self._ready[name] = queue
                self._ready.move_to_end(name, last=False)
            else:
                del self._queues[name]
            if full:
                break
        return batch

    def remove_late(self, oldest: float) -> list[Submission]:
        """Remove and return the submissions that arrived before ``oldest``, in seconds of the loop's clock."""
        late: list[Submission] = []
        for queue in self._queues.values():
            while queue and queue[0].arrived < oldest:
                late.append(queue.popleft())
        for name in [name for name, queue in self._ready.items() if not queue]:
            del self._ready[name], self._queues[name]
        return late

    def put_back(self, batch: Batch, *, alone: bool = False) -> None:
        """Return a batch to the head of its queues. With ``alone``, each submission is tried alone from now on."""
        for submission in reversed(batch.submissions):
            submission.alone = submission.alone or alone
            self._queues[submission.queue].appendleft(submission)

    def done(self, batch: Batch) -> None:
        """Unlock the queues of a batch."""
        for name in batch.queues:
            if queue := self._queues[name]:
                self._ready[name] = queue
            else:
                del self._queues[name]
