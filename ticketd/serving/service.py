"""Owns what all sessions share: the parts that answer requests, and the counts of connections and requests."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from ticketd import __version__
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.clients import SHUTTING_DOWN
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.model import Event
from ticketd.serving.accepting import Accepted
from ticketd.serving.access import Access, Gate
from ticketd.serving.booking_watchers import BookingWatchers
from ticketd.serving.fair_share import FairShare
from ticketd.serving.places import Places
from ticketd.serving.strangers import TOO_MANY_ANONYMOUS, Strangers
from ticketd.serving.watchers import Watchers
from ticketd.wire.replies import ErrorReply, ReadyReply, StatsReply
from ticketd.wire.requests import List, Request

# One in so many connections may be of somebody who has not said who they are.
STRANGERS_SHARE = 10
# One in so many, if these may do something all the same.
ANONYMOUS_SHARE = 2


@dataclass
class Service:
    """Shared by all sessions. Implements ``Memory``, from which the rules answer without the ledger."""

    committer: Committer
    catalogue: Catalogue
    limits: Limits
    # None if everybody may do everything.
    access: Access | None = None
    # Whether tokens are taken on connections that others can read.
    takes_plain_tokens: bool = False
    takes_words: bool = True
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    connections: int = 0
    requests: int = 0
    # See Memory. The committer counts the others.
    answered: defaultdict[type[Request], int] = field(default_factory=lambda: defaultdict(int))
    # Whether the daemon is ending. It still commits what it has read.
    draining: bool = False
    fair_share: FairShare = field(default_factory=FairShare)
    watchers: Watchers = field(init=False)
    booking_watchers: BookingWatchers = field(init=False)
    places: Places = field(init=False)
    # Connections of those who have not said who they are: they may do nothing else, or what the anonymous may.
    strangers: Strangers = field(init=False)
    anonymous: Strangers = field(init=False)

    def __post_init__(self) -> None:
        """Make the parts that depend on others."""
        self.watchers = Watchers(self.catalogue, self.fair_share)
        self.booking_watchers = BookingWatchers(self.catalogue, self.committer.reader, self.fair_share)
        self.places = Places(self.limits)
        self.strangers = Strangers(self.limits.connections_max // STRANGERS_SHARE)
        self.anonymous = Strangers(self.limits.connections_max // ANONYMOUS_SHARE, TOO_MANY_ANONYMOUS)

    @property
    def watching(self) -> int:
        """How many connections watch events, or a booking."""
        return len(self.watchers) + len(self.booking_watchers)

    def gate(self, accepted: Accepted, on_known: Callable[[], None]) -> Gate | None:
        """Return what guards a new connection, or None if everybody may do everything."""
        if self.access is None:
            return None
        return Gate(
            self.access,
            accepted.owner,
            asyncio.get_running_loop().time,
            peer=accepted.peer,
            uid=accepted.uid,
            takes_tokens=self.takes_plain_tokens or accepted.is_private,
            on_known=on_known,
        )

    def strangers_with(self, gate: Gate | None) -> Strangers | None:
        """Return the strangers among whom whoever is at this gate counts, or None if that is no stranger."""
        if gate is None or gate.who.name is not None:
            return None
        return self.strangers if gate.is_stranger else self.anonymous

    def now(self) -> int:
        """See Memory."""
        return self.committer.now()

    def has_due_holds(self) -> bool:
        """See Memory."""
        return self.committer.expiry.is_due()

    def event(self, event_id: str) -> Event | None:
        """See Memory."""
        return self.catalogue.get(event_id)

    def is_settled(self, event_id: str) -> bool:
        """See Memory."""
        return self.committer.is_settled(event_id)

    def held(self, booking: str) -> tuple[str, int] | None:
        """See Memory."""
        return self.committer.held(booking)

    def count_refusal(self, request: Request, refusal: ErrorReply) -> None:
        """See Memory."""
        self.committer.activity.count_refusal(request, refusal.code)

    def list_frame(self, request: List) -> bytes:
        """See Memory."""
        return self.catalogue.list_frame(request)

    def ready(self) -> ReadyReply | ErrorReply:
        """See Memory."""
        return ErrorReply("shutting_down", SHUTTING_DOWN) if self.draining else self.committer.ready()

    def stats(self) -> StatsReply:
        """See Memory."""
        counts = self.committer.activity.counts
        return StatsReply(
            version=__version__,
            ready=isinstance(self.ready(), ReadyReply),
            uptime_seconds=round(asyncio.get_running_loop().time() - self.started, 3),
            connections=self.connections,
            connections_max=self.limits.connections_max,
            connections_waiting=self.places.waiting,
            events=len(self.catalogue),
            requests=self.requests,
            commits=counts.commits,
            bookings=counts.bookings,
            tickets=counts.tickets,
            refused=self.committer.activity.refused,
            queued=self.committer.queued,
            watchers=self.watching,
            busiest=self.committer.activity.busiest(),
            slowest=self.committer.activity.timings.slowest(asyncio.get_running_loop().time()),
        )
