"""One connection: read a chunk, answer its lines, write the replies at once, and mind the deadlines."""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from msgspec import UNSET

from ticketd import __version__, protocol, words
from ticketd.books import LedgerRequest, rows
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.deadline import Deadline
from ticketd.errors import TicketError
from ticketd.framing import Lines
from ticketd.protocol import (
    Bookings,
    ErrorReply,
    Help,
    List,
    Ping,
    PongReply,
    Request,
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

READ_BYTES = 16 * 1024
# A chunk of so few lines and bytes is answered at once; any other waits for its turn.
MODEST_FRAMES = 16
MODEST_BYTES = 1_024
# Replies of one chunk are written together up to this many bytes; a client that asks for many long lists must take
# the first ones before the next are made.
WRITE_BYTES = 256 * 1024
# What may wait to be taken by a watcher before it is left behind.
WATCH_BYTES = 64 * 1024
LINGER_SECONDS_MAX = 1.0

# What is answered from memory, and what is asked of the ledger by itself. Everything else goes there together.
_AT_ONCE = (List, Watch, Stats, Ping, Help, ErrorReply)
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

    def __init__(self, house: House, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._house = house
        self._limits = house.limits
        self._reader = reader
        self._writer = writer
        self._peer = peer_name(writer)
        self._loop = asyncio.get_running_loop()
        self._lines = Lines(house.limits.frame_bytes_max)
        self._line_began = 0.0
        self._task = asyncio.current_task()
        self._reading = False
        self._interruption: TicketError | None = None
        self._deadline = Deadline(self._deadline_passed)
        self._unsent = 0
        self._taken_at = 0.0
        self._watcher: Watcher | None = None

    async def run(self) -> None:
        """Converse until the client ends it, a deadline passes or ``interrupt`` is called; then close."""
        error: TicketError | None = None
        try:
            await self._converse()
        except TicketError as ending:
            error = ending.with_traceback(None)
        except OSError:
            log.debug("lost peer=%s", self._peer)
        finally:
            self._stop_watching()
            self._deadline.close()
            # It knows the session: what both hold would stay until the garbage collector comes by.
            del self._deadline
        await farewell(self._reader, self._writer, error, self._limits.write_seconds_max)

    def interrupt(self, error: TicketError) -> None:
        """End the conversation with an error. A line that was read before this is still answered first."""
        self._interruption = error
        if self._reading and self._task:
            self._task.cancel()

    async def _converse(self) -> None:
        while chunk := await self._read():
            frames = chunk.count(b"\n")
            if frames > MODEST_FRAMES or (frames and len(chunk) > MODEST_BYTES):
                await self._house.turns.wait()
            was_pending = self._lines.pending
            lines = self._lines.feed(chunk)
            most = self._limits.frames_in_flight_max
            for start in range(0, len(lines), most):
                if start:
                    await self._house.turns.wait()
                await self._answer(lines[start : start + most])
            if self._lines.pending and (lines or not was_pending):
                # Not before: it is not the client that makes its turns wait.
                self._line_began = self._loop.time()
            if self._lines.too_long:
                limit = self._limits.frame_bytes_max
                raise TicketError("frame_too_long", f"a line may have {limit} bytes; end each request with a newline")
        rest = self._lines.end()
        if rest.startswith(b"{"):
            await self._answer([rest])
        elif rest:
            raise TicketError("bad_frame", "the input ended within a line: not done, send it again with a newline")

    async def _read(self) -> bytes:
        if self._interruption:
            raise self._interruption
        if self._lines.pending:
            self._deadline.set(self._line_began + self._limits.frame_seconds_max)
        elif self._watcher is None:
            self._deadline.set(self._loop.time() + self._limits.idle_seconds_max)
        self._reading = True
        try:
            return await self._reader.read(READ_BYTES)
        except asyncio.CancelledError:
            if self._interruption is None or self._task is None:
                raise
            self._task.uncancel()
            raise self._interruption from None
        finally:
            self._reading = False
            self._deadline.clear()

    async def _answer(self, lines: list[bytes]) -> None:
        """Answer each line, in order."""
        self._house.requests += len(lines)
        requests, ending = _decode_all(lines)
        frames: list[bytes] = []
        size = 0
        for turn in self._turns(requests):
            self._stop_watching()
            if isinstance(turn, _SHOWS_EVENTS) and self._house.box_office.holds_ran_out():
                await self._ask_ledger([])
            if isinstance(turn, list):
                answer = await self._ask_ledger(turn)
            elif isinstance(turn, Watch):
                await asyncio.sleep(0)
                # From here to the write nothing waits, so no change comes before the state that it changes.
                answer = self._watch(turn)
            else:
                answer = [self._answer_at_once(turn)]
            frames += answer
            size += sum(map(len, answer))
            if size > WRITE_BYTES:
                await self._send(frames)
                await self._house.turns.wait()
                frames = []
                size = 0
        if frames:
            await self._send(frames)
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
            if isinstance(request, _AT_ONCE):
                alone: list[LedgerRequest] | List | Show | Stats | Ping | Help | Watch | ErrorReply = request
            elif isinstance(request, _PAGES):
                alone = [request]
            elif isinstance(request, Show) and self._house.catalogue.get(request.id):
                alone = request
            else:
                more = rows(request)
                if party and cost + more > self._limits.rows_per_desk_max:
                    yield party
                    party, cost = [], 0
                party.append(request)
                cost += more
                continue
            if party:
                yield party
                party, cost = [], 0
            yield alone
        if party:
            yield party

    async def _ask_ledger(self, party: list[LedgerRequest]) -> list[bytes]:
        replies = await self._house.box_office.submit(party, self._peer)
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
        self._see_that_it_is_there()
        # A watcher may be silent for days: only the network can tell that it has gone.
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._watcher = Watcher(event, self._push)
        self._unsent, self._taken_at = 0, self._loop.time()
        state = self._house.watchers.add(self._watcher)
        return [b"\n".join(state)] if state else []

    def _stop_watching(self) -> None:
        if self._watcher:
            self._house.watchers.remove(self._watcher)
            self._watcher = None

    def _push(self, data: bytes) -> bool:
        """Write what a watcher is told, unless it has not taken what it was told before."""
        if self._writer.transport.is_closing():
            return True
        unsent = self._writer.transport.get_write_buffer_size()
        now = self._loop.time()
        if unsent <= WATCH_BYTES:
            self._writer.write(data)
            self._unsent, self._taken_at = unsent + len(data), now
            return True
        if unsent < self._unsent:
            self._unsent, self._taken_at = unsent, now
        elif now - self._taken_at > self._limits.write_seconds_max:
            self._cut_off(unsent)
        return False

    def _cut_off(self, unsent: int) -> None:
        log.info("cut off peer=%s unsent_bytes=%d", self._peer, unsent)
        self._writer.transport.abort()

    def _see_that_it_is_there(self) -> None:
        # It may have gone while its requests waited. uvloop's transports answer then as if this were a bug.
        if self._writer.transport.is_closing():
            raise ConnectionResetError

    async def _send(self, frames: list[bytes]) -> None:
        self._see_that_it_is_there()
        if len(frames) == 1 and len(frames[0]) > WRITE_BYTES:
            # A long list is shared by all who have asked for it, not copied for each.
            self._writer.write(frames[0])
            self._writer.write(b"\n")
        else:
            frames.append(b"")
            self._writer.write(b"\n".join(frames))
        transport = self._writer.transport
        if transport.get_write_buffer_size() > WRITE_BYTES:
            self._unsent = transport.get_write_buffer_size()
            self._deadline.set(self._loop.time() + self._limits.write_seconds_max)
            try:
                await self._writer.drain()
            finally:
                self._deadline.clear()

    def _deadline_passed(self) -> None:
        if not self._reading:
            unsent = self._writer.transport.get_write_buffer_size()
            if unsent < self._unsent:
                # Slow, but taking its replies.
                self._unsent = unsent
                self._deadline.set(self._loop.time() + self._limits.write_seconds_max)
            else:
                self._cut_off(unsent)
        elif self._lines.pending:
            seconds = self._limits.frame_seconds_max
            self.interrupt(TicketError("idle_timeout", f"a line must end within {seconds:g} s of its first byte"))
        else:
            seconds = self._limits.idle_seconds_max
            self.interrupt(TicketError("idle_timeout", f"nothing came for {seconds:g} s; connect again"))


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


async def farewell(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: TicketError | None, seconds: float
) -> None:
    """Close a connection so that the client gets what was written, with an error as its last line if there is one.

    Closing with input unread would make the kernel reset the connection, and the client could lose its last replies.
    So the sending side is ended first, and for a moment (LINGER_SECONDS_MAX) what still comes is read and dropped.
    At most ``seconds`` more are spent until the client has taken what was written.
    """
    transport = cast(asyncio.Transport, writer.transport)
    with contextlib.suppress(OSError, RuntimeError):
        if error and not transport.is_closing():
            log.debug("ending peer=%s code=%s", peer_name(writer), error.code)
            writer.write(protocol.encode(protocol.error_reply(error)) + b"\n")
            writer.write_eof()
            async with asyncio.timeout(LINGER_SECONDS_MAX):
                while await reader.read(READ_BYTES):
                    pass
    with contextlib.suppress(OSError):
        writer.close()
        async with asyncio.timeout(seconds):
            await writer.wait_closed()
    transport.abort()


def peer_name(writer: asyncio.StreamWriter) -> str:
    """Return host and port of the other side as the log tells them."""
    try:
        host, port = writer.get_extra_info("peername")[:2]
    except (AttributeError, OSError, TypeError):
        # It has gone already; uvloop raises AttributeError then.
        return "unknown"
    return f"{host}:{port}"
