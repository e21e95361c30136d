"""What a connection says: read a chunk, answer its lines, write the replies at once."""

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import UNSET

from ticketd import __version__, protocol, words
from ticketd.books import LedgerRequest, rows
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.connection import WRITE_BYTES, Connection, pause
from ticketd.errors import TicketError
from ticketd.framing import Lines
from ticketd.protocol import (
    Amend,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    Help,
    Hold,
    List,
    Ping,
    PongReply,
    Redeem,
    Release,
    Reply,
    Request,
    Restore,
    Show,
    Stats,
    StatsReply,
    Tickets,
    Watch,
)
from ticketd.rules import event_reply
from ticketd.turns import Turns
from ticketd.watchers import Watcher, Watchers

log = logging.getLogger(__name__)

# A chunk of so few lines and bytes is answered at once; any other waits for its turn.
MODEST_FRAMES = 16
MODEST_BYTES = 1_024
# What goes to the ledger together, the commonest first; and what is asked of it by itself. The rest is answered from
# memory, ``show`` where it is of an event.
_CHANGES = (Book, Hold, Confirm, Release, Cancel, Redeem, Create, Amend, Restore)
_PAGES = (Bookings, Tickets)
_SHOWS_EVENTS = (List, Show, Watch)

_HTTP = re.compile(rb"[A-Z]+ \S+ HTTP/\d")


@dataclass
class House:
    """What all sessions share."""

    box_office: BoxOffice
    catalogue: Catalogue
    limits: Limits
    watchers: Watchers
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    connections: int = 0
    waiting: int = 0
    requests: int = 0
    turns: Turns = field(default_factory=Turns)

    def stats(self) -> StatsReply:
        """Answer ``stats``."""
        counts = self.box_office.counts
        return StatsReply(
            version=__version__,
            uptime_seconds=round(asyncio.get_running_loop().time() - self.started, 3),
            connections=self.connections,
            connections_max=self.limits.connections_max,
            waiting=self.waiting,
            events=len(self.catalogue),
            requests=self.requests,
            commits=counts.commits,
            bookings=counts.bookings,
            tickets=counts.tickets,
            refused=counts.refused,
            queued=self.box_office.queued,
            watchers=len(self.watchers),
        )


class Session:
    """Serves one connection until it ends. ``run`` is awaited once."""

    def __init__(self, house: House, connection: Connection) -> None:
        self._house = house
        self._connection = connection
        self._lines = Lines(house.limits.frame_bytes_max)
        self._watcher: Watcher | None = None

    async def run(self) -> None:
        """Converse until the client ends it, a deadline passes or the connection is interrupted; then say farewell."""
        error: TicketError | None = None
        try:
            await self._connection.converse(self._converse())
        except TicketError as ending:
            error = ending.with_traceback(None)
        except OSError as loss:
            # Its traceback knows what was to be sent.
            loss.with_traceback(None)
            log.debug("lost peer=%s", self._connection.peer)
        finally:
            self._stop_watching()
        await self._connection.farewell(error)

    async def _converse(self) -> None:
        most = self._house.limits.frames_in_flight_max
        line_began: float | None = None
        while chunk := await self._connection.read(line_began, patiently=self._watcher is not None):
            frames = chunk.count(b"\n")
            if frames > MODEST_FRAMES or (frames and len(chunk) > MODEST_BYTES):
                await self._turn()
            lines = self._lines.feed(chunk)
            for start in range(0, len(lines), most):
                if start:
                    await self._turn()
                await self._answer(lines[start : start + most])
            if not self._lines.pending:
                line_began = None
            elif lines or line_began is None:
                # Not before: it is not the client that makes its turns wait.
                line_began = asyncio.get_running_loop().time()
            if self._lines.too_long:
                limit = self._house.limits.frame_bytes_max
                raise TicketError("frame_too_long", f"a line may have {limit} bytes; end each request with a newline")
        rest = self._lines.end()
        if rest.startswith(b"{"):
            await self._answer([rest])
        elif rest:
            raise TicketError("bad_frame", "the input ended within a line: not done, send it again with a newline")

    async def _turn(self) -> None:
        self._house.turns.wait(self._connection.resume)
        await pause()

    async def _answer(self, lines: list[bytes]) -> None:
        """Answer each line, in order."""
        self._house.requests += len(lines)
        requests, ending = _decode_all(lines)
        frames: list[bytes] = []
        size = 0
        for turn in self._turns(requests):
            self._stop_watching()
            if isinstance(turn, list):
                answer = await self._ask_ledger(turn)
            else:
                if isinstance(turn, _SHOWS_EVENTS) and self._house.box_office.holds_ran_out():
                    await self._ask_ledger([])
                if isinstance(turn, Watch):
                    await self._turn()
                    # From here to the write nothing waits, so no change comes before the state that it changes.
                    answer = self._watch(turn)
                else:
                    answer = [self._answer_at_once(turn)]
            frames += answer
            size += sum(map(len, answer))
            if size > WRITE_BYTES:
                # Who asks for many long lists must take the first ones before the next are made.
                await self._connection.write(frames)
                await self._turn()
                frames = []
                size = 0
        if frames:
            await self._connection.write(frames)
        if ending:
            raise ending

    def _turns(
        self, requests: list[Request | ErrorReply]
    ) -> Iterator[list[LedgerRequest] | List | Show | Stats | Ping | Help | Watch | ErrorReply]:
        """Cut requests, in order, into what goes to the ledger together and what is answered at once.

        So what is answered at once sees the writes that were sent before it. A page is read on its own, for the same.
        """
        party: list[LedgerRequest] = []
        cost = 0
        for request in requests:
            if isinstance(request, _CHANGES) or (
                isinstance(request, Show) and self._house.catalogue.get(request.id) is None
            ):
                more = rows(request)
                if party and cost + more > self._house.limits.rows_per_desk_max:
                    yield party
                    party, cost = [], 0
                party.append(request)
                cost += more
                continue
            if party:
                yield party
                party, cost = [], 0
            yield [request] if isinstance(request, _PAGES) else request
        if party:
            yield party

    async def _ask_ledger(self, party: list[LedgerRequest]) -> list[bytes]:
        self._house.box_office.enter(party, self._connection.peer, self._connection.resume)
        replies: list[Reply] = await pause()
        return [protocol.encode(reply) for reply in replies]

    def _answer_at_once(self, request: List | Show | Stats | Ping | Help | ErrorReply) -> bytes:
        """Return the encoded reply to a request that needs no ledger: it is committed already what this shows."""
        try:
            match request:
                case List():
                    return self._house.catalogue.list_frame(request)
                case Show():
                    event = self._house.catalogue.get(request.id)
                    assert event is not None
                    return protocol.encode(event_reply(event))
                case Stats():
                    return protocol.encode(self._house.stats())
                case Ping():
                    return protocol.encode(PongReply())
                case Help():
                    return protocol.encode(protocol.help_reply(request))
                case ErrorReply():
                    return protocol.encode(request)
        except TicketError as error:
            return protocol.encode(protocol.error_reply(error))

    def _watch(self, request: Watch) -> list[bytes]:
        """Begin to watch, and return the lines of what there is now."""
        event = None if request.event is UNSET else request.event
        if event is not None and self._house.catalogue.get(event) is None:
            error = TicketError("event_not_found", f"there is no event {event} to watch; list shows the events")
            return [protocol.encode(protocol.error_reply(error))]
        self._connection.begin_pushing()
        self._watcher = Watcher(event, self._connection.push)
        state = self._house.watchers.add(self._watcher)
        return [b"\n".join(state)] if state else []

    def _stop_watching(self) -> None:
        if self._watcher:
            self._house.watchers.remove(self._watcher)
            self._watcher = None


def _decode_all(lines: list[bytes]) -> tuple[list[Request | ErrorReply], TicketError | None]:
    """Return what each line asks, or the error that answers it, and the error that ends the connection, if one does."""
    requests: list[Request | ErrorReply] = []
    for line in lines:
        try:
            if line.startswith(b"{"):
                requests.append(protocol.decode(line))
            elif _HTTP.match(line):
                # A web page could make a browser send commands in the body of a request.
                return requests, TicketError(
                    "bad_frame", "this is not a web server; send one request a line, such as list"
                )
            else:
                requests.append(words.decode(line))
        except TicketError as error:
            requests.append(protocol.error_reply(error))
    return requests, None
