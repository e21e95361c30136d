"""The listener, the door and the drain."""

import asyncio
import logging
import resource

from ticketd.box_office import RETRY_AFTER_SECONDS, SHUTTING_DOWN
from ticketd.connection import Connection
from ticketd.errors import TicketError
from ticketd.session import House, Session

log = logging.getLogger(__name__)

BACKLOG = 1_024
# Connections that are being told why they are not served; past that they are just closed.
TURNED_AWAY_MAX = 64
# File descriptors that connections leave to the ledger, the events file and the listener.
DESCRIPTORS_KEPT = 32


class Server:
    """Accepts connections, lets at most ``connections_max`` of them in, and ends them all in ``drain``."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._limits = house.limits
        self._door = asyncio.Semaphore(house.limits.connections_max)
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_door: set[asyncio.Task[None]] = set()
        self._served: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        # Why every connection ends, once it does.
        self._ending: TicketError | None = None
        self._turned_away = 0
        self._told_descriptors = False

    async def listen(self, host: str, port: int) -> list[str]:
        """Begin to accept, and return the addresses as ``host:port``. Port 0 takes a free one. Raises OSError."""
        self._listener = await asyncio.start_server(self._connected, host, port, backlog=BACKLOG)
        return [_address(socket.getsockname()) for socket in self._listener.sockets]

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let every session answer what it has read, and close them; after ``seconds`` cut them off."""
        if self._listener:
            self._listener.close()
        self._ending = TicketError("shutting_down", SHUTTING_DOWN)
        for task in self._at_door:
            task.cancel()
        for connection in list(self._served):
            connection.interrupt(self._ending)
        deadline = asyncio.get_running_loop().time() + seconds
        # More than once: what had been accepted already may begin to be served only now.
        while self._tasks and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        if self._tasks:
            log.warning("cut off connections=%d after_seconds=%g", len(self._tasks), seconds)
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=1)

    def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._descriptors_ran_out():
            writer.transport.abort()
            return
        # Called by start_server as a plain function: the task is known before anything else can happen, so a drain
        # finds it, and cancelling it is no error that start_server would log.
        task = asyncio.get_running_loop().create_task(self._attend(Connection(writer, self._limits)))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _descriptors_ran_out(self) -> bool:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY or len(self._tasks) < limit - DESCRIPTORS_KEPT:
            return False
        if not self._told_descriptors:
            self._told_descriptors = True
            log.warning("open files are limited to %d; connections past that are closed unserved", limit)
        return True

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a bug ended a connection", exc_info=error)

    async def _attend(self, connection: Connection) -> None:
        try:
            refusal = await self._enter()
            if refusal:
                await self._turn_away(connection, refusal)
                return
            self._house.connections += 1
            try:
                await self._serve(connection)
            finally:
                self._house.connections -= 1
                self._door.release()
        finally:
            connection.abort()

    async def _serve(self, connection: Connection) -> None:
        if self._ending:
            connection.interrupt(self._ending)
        self._served.add(connection)
        try:
            await Session(self._house, connection).run()
        finally:
            self._served.discard(connection)

    async def _turn_away(self, connection: Connection, refusal: TicketError) -> None:
        if self._turned_away >= TURNED_AWAY_MAX:
            # A flood: no time for manners.
            return
        log.info("turned away peer=%s code=%s", connection.peer, refusal.code)
        self._turned_away += 1
        try:
            await connection.farewell(refusal)
        finally:
            self._turned_away -= 1

    async def _enter(self) -> TicketError | None:
        """Pass the door, waiting in line if need be, or return why not. Of who waits, no more than a buffer is read."""
        if self._ending:
            return self._ending
        if not self._door.locked():
            await self._door.acquire()
            return None
        if self._house.waiting >= self._limits.waiting_max:
            message = "too many connections, and too many waiting; try again later"
            return TicketError("too_many_connections", message, retry_after=RETRY_AFTER_SECONDS)
        task = asyncio.current_task()
        assert task is not None
        self._house.waiting += 1
        self._at_door.add(task)
        try:
            async with asyncio.timeout(self._limits.door_seconds_max):
                await self._door.acquire()
        except TimeoutError:
            message = f"too many connections; waited {self._limits.door_seconds_max:g} s at the door, try again later"
            return TicketError("too_many_connections", message, retry_after=RETRY_AFTER_SECONDS)
        except asyncio.CancelledError:
            task.uncancel()
            return TicketError("shutting_down", SHUTTING_DOWN)
        finally:
            self._house.waiting -= 1
            self._at_door.discard(task)
        return None


def _address(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
