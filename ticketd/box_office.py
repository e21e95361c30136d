"""Serializes what reads or writes the ledger: one commit after the other for all that waits in line.

While one commit is being synced the next batch gathers, so an idle server commits one request at once and a busy one
commits hundreds together; there is no timer. Where the ledger takes several commits at once, they are of different
events.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from msgspec import UNSET

from ticketd import sales_log
from ticketd.books import ROWS_OF_A_BOOKING_GUESS, Adopt, LedgerRequest, rows
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.desks import Batch, Desks, Party
from ticketd.ids import new_event_id, new_id
from ticketd.protocol import (
    Amend,
    Book,
    BookingReply,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    Hold,
    Release,
    Reply,
    Restore,
    Show,
)
from ticketd.stores.base import (
    EventsLockedError,
    LedgerAwayError,
    LedgerFailedError,
    OutcomeUnknownError,
    StorageFullError,
    Store,
)

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1.0
AWAY_RETRY_SECONDS = 0.1
CLOCK_LOOK_SECONDS = 1.0
LATE_LOOK_SECONDS = 0.5
BOOKINGS_REMEMBERED_MAX = 50_000
# So many of a batch are answered before the next commit begins.
ANSWERS_FIRST = 8
# By whether the ledger is away.
BUSY = {
    False: "too many are before you; nothing was done, try again",
    True: "the ledger cannot be reached; nothing was done, try again",
}
SHUTTING_DOWN = "the daemon is ending; nothing was done, try again when it is back"


_TAKES = (Book, Hold)
# What costs as much as the booking has tickets.
_OF_A_BOOKING = (Confirm, Cancel, Show)


class BoxOffice:
    """Serializes what reads or writes the ledger. ``run`` does the work; ``submit`` is how it gets in."""

    def __init__(self, store: Store, catalogue: Catalogue, limits: Limits) -> None:
        self._store = store
        self._catalogue = catalogue
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._desks = Desks(limits)
        # Event and quantity of holds, so that what becomes of them stands in the line of their event, and of bookings
        # that cost more than one would guess.
        self._remembered: dict[str, tuple[str, int]] = {}
        self._arrival = asyncio.Event()
        self._closing = False
        # Since there was no room for a commit: when to try the next one.
        self._full_until: float | None = None
        # How often in a row the ledger could not be reached, and why, as it was told last.
        self._away = 0
        self._told = ""
        # Where no commit is possible, nobody waits for one that ends holds.
        self._holds_rest_until = 0.0
        self.counts = sales_log.Counts()

    @property
    def queued(self) -> int:
        """How many parties wait for a commit."""
        return len(self._desks)

    def holds_ran_out(self) -> bool:
        """Whether there may be holds that have run out and are still counted as held: submit nothing, and await it."""
        expiry = self._store.next_expiry
        return expiry is not None and expiry <= self._store.now() and self._holds_rest_until <= self._loop.time()

    def submit(self, requests: Sequence[LedgerRequest], peer: str) -> asyncio.Future[list[Reply]]:
        """Let the requests stand in line together, and return the future of their replies. It never fails."""
        answered: asyncio.Future[list[Reply]] = self._loop.create_future()

        def answer(replies: list[Reply]) -> None:
            if not answered.done():
                answered.set_result(replies)

        self.enter(requests, peer, answer)
        return answered

    def enter(self, requests: Sequence[LedgerRequest], peer: str, answer: Callable[[list[Reply]], None]) -> None:
        """Let the requests stand in line together; ``answer`` is called with their replies, after this has returned.

        Ids that the client did not give are minted here, once, so that a request keeps them however often it is tried.
        """
        cost = 0
        for request in requests:
            if isinstance(request, _TAKES):
                if request.booking is UNSET:
                    request.booking = new_id()
            elif isinstance(request, Create) and request.id is UNSET:
                request.id = new_event_id(request.name)
            cost += self.rows(request)
        party = Party(requests, peer, self._desk_for(requests, peer), self._loop.time(), answer, cost)
        if self._closing:
            self._loop.call_soon(party.refuse, "shutting_down", SHUTTING_DOWN)
        else:
            self._desks.add(party)
            self._call_idle()

    async def run(self) -> None:
        """Commit one batch after the other until ``close``. Raises LedgerFailedError: the process must end then."""
        try:
            looking = self._loop.create_task(self._look_for_late())
            await asyncio.gather(*(self._work() for _ in range(self._store.commits_at_once)))
        finally:
            looking.cancel()
            self._closing = True
            for party in self._desks.clear():
                party.refuse("shutting_down", SHUTTING_DOWN)

    async def _look_for_late(self) -> None:
        """Refuse who has waited for too long, even while no commit comes to an end."""
        while True:
            await asyncio.sleep(LATE_LOOK_SECONDS)
            self._refuse(self._desks.late(self._loop.time() - self._limits.desk_seconds_max))

    def _refuse(self, late: list[Party]) -> None:
        for party in late:
            party.refuse("busy", BUSY[self._away > 0], RETRY_AFTER_SECONDS)

    async def _work(self) -> None:
        while self._desks.anybody or not self._closing:
            if self._desks.anybody or self.holds_ran_out():
                batch = self._desks.take(self._loop.time() - self._limits.desk_seconds_max)
                self._call_idle()
                self._refuse(batch.late)
                try:
                    outcome = await self._commit(batch)
                finally:
                    self._desks.done(batch)
                if outcome:
                    await self._tell(batch, *outcome)
                await self._store.tidy()
            else:
                self._arrival.clear()
                await self._wait()

    def _call_idle(self) -> None:
        # Who comes to a desk that is being served waits for whoever serves it.
        if self._desks.anybody:
            self._arrival.set()

    async def _wait(self) -> None:
        """Wait for an arrival, or until the next hold may have run out."""
        # The clock of holds may be set while this waits, and others may make holds in the same ledger.
        seconds = CLOCK_LOOK_SECONDS
        if self._store.next_expiry is not None:
            seconds = min((self._store.next_expiry - self._store.now()).total_seconds(), seconds)
        seconds = max(seconds, self._holds_rest_until - self._loop.time(), 0)
        alarm = self._loop.call_later(seconds, self._arrival.set)
        await self._arrival.wait()
        alarm.cancel()

    def close(self) -> None:
        """Refuse what comes from now on; ``run`` returns when what stands in line has been answered."""
        self._closing = True
        self._arrival.set()

    def _desk_for(self, requests: Sequence[LedgerRequest], peer: str) -> str:
        """Return where a party stands: of the desks of its requests the one with the longest line.

        So nobody gets past a line by way of a shorter one. Where the event is not known, it is a line of its own, with
        the name of its connection, which no id of an event can be.
        """
        if len(requests) == 1:
            return self._event_of(requests[0]) or peer
        desks = {event for event in map(self._event_of, requests) if event is not None}
        if len(desks) <= 1:
            return desks.pop() if desks else peer
        return max(desks, key=self._desks.length)

    def _event_of(self, request: LedgerRequest) -> str | None:
        match request:
            case Book() | Hold() | Amend() | Restore():
                return request.event
            case Adopt():
                return request.event.id
            case Create():
                return str(request.id)
            case Confirm() | Release() | Cancel():
                event, _ = self._remembered.get(request.booking, (None, 0))
                return event
            case _:
                return None

    def rows(self, request: LedgerRequest) -> int:
        """Return about how many rows a request reads or writes, which is what it costs."""
        if isinstance(request, _TAKES) or not isinstance(request, _OF_A_BOOKING):
            return rows(request)
        known = self._remembered.get(request.id if isinstance(request, Show) else request.booking)
        return 1 + known[1] if known else rows(request)

    def _remember(self, reply: Reply) -> None:
        if isinstance(reply, BookingReply) and (reply.state == "held" or reply.quantity > ROWS_OF_A_BOOKING_GUESS):
            self._remembered[reply.id] = (reply.event, reply.quantity)
            if len(self._remembered) > BOOKINGS_REMEMBERED_MAX:
                del self._remembered[next(iter(self._remembered))]

    async def _commit(self, batch: Batch) -> tuple[list[Reply], bool] | None:
        """Return the replies, and whether there was a commit; or None if the parties were refused or put back."""
        requests = [request for party in batch.parties for request in party.requests]
        try:
            return await self._decide(requests, batch)
        except EventsLockedError:
            for party in batch.parties:
                # Those of other events shall not wait for it again.
                party.alone = len(batch.desks) > 1
            self._desks.put_back(batch)
        except LedgerAwayError as error:
            for party in batch.parties:
                if not party.requests:
                    # It only asked for the end of holds, and waits no longer.
                    party.answer([])
            batch.parties = [party for party in batch.parties if party.requests]
            self._desks.put_back(batch)
            await self._wait_for_ledger(error)
        except OutcomeUnknownError as error:
            message = "the outcome is unknown; send it again with the same id, which settles it"
            for party in batch.parties:
                party.refuse("outcome_unknown", message)
            if isinstance(error, LedgerFailedError):
                raise
            log.warning("%s: requests=%d", error, len(requests))
        except Exception:
            if not batch.parties:
                raise
            if len(batch.parties) > 1:
                for party in batch.parties:
                    party.alone = True
                self._desks.put_back(batch)
                return None
            log.exception("a bug: %r", requests)
            batch.parties[0].refuse("internal", "the daemon has a bug; nothing was done, its log tells more")
            return None
        return None

    async def _tell(self, batch: Batch, replies: list[Reply], committed: bool) -> None:
        for reply in replies:
            self._remember(reply)
        answers: list[tuple[Party, list[Reply]]] = []
        start = 0
        for party in batch.parties:
            end = start + len(party.requests)
            answers.append((party, replies[start:end]))
            start = end
        # Who waited longest stands first, such as those of a quiet event. While the others are answered, which takes
        # time, the next commit is being synced.
        _answer(answers[:ANSWERS_FIRST])
        if len(answers) > ANSWERS_FIRST:
            self._loop.call_soon(_answer, answers[ANSWERS_FIRST:])
        sales_log.record(self.counts, batch.parties, replies, committed=committed)
        if not committed:
            # Nothing was waited for: the turn of the others.
            await asyncio.sleep(0)

    async def _wait_for_ledger(self, error: LedgerAwayError) -> None:
        self._away += 1
        if self._away > 1 and self._told != str(error):
            # Not of a connection that broke, which another one makes up for.
            self._told = str(error)
            log.warning("requests wait: %s", error)
        self._holds_rest_until = self._loop.time() + RETRY_AFTER_SECONDS
        await asyncio.sleep(AWAY_RETRY_SECONDS)

    async def _decide(self, requests: list[LedgerRequest], batch: Batch) -> tuple[list[Reply], bool]:
        """Return the replies, and whether there was a commit, which is published then."""
        if self._full_until is not None and self._loop.time() < self._full_until:
            return await self._decide_on_full_disk(requests), False
        try:
            replies, events, changed = await self._store.transact(
                requests, lambda: [request for party in self._desks.top_up(batch) for request in party.requests]
            )
        except StorageFullError as error:
            if self._full_until is None:
                log.warning("%s; refusing what would change anything until there is room", error)
            self._full_until = self._holds_rest_until = self._loop.time() + RETRY_AFTER_SECONDS
            return await self._decide_on_full_disk(requests), False
        if self._away > 1:
            log.info("the ledger is back")
        self._away, self._told = 0, ""
        if changed and self._full_until is not None:
            log.info("there is room again")
            self._full_until = None
        if events:
            self._catalogue.publish(events)
        return replies, changed

    async def _decide_on_full_disk(self, requests: list[LedgerRequest]) -> list[Reply]:
        """Return the replies of requests that need no commit, such as what only reads; the others are refused.

        Holds that have run out stay held meanwhile, since what is not durable is not true yet.
        """
        message = "the disk is full; nothing was done, try again when there is room"
        refusal = ErrorReply("storage_full", message, retry_after=RETRY_AFTER_SECONDS)
        return [await self._store.read(request) or refusal for request in requests]


def _answer(answers: Iterable[tuple[Party, list[Reply]]]) -> None:
    for party, replies in answers:
        party.answer(replies)
