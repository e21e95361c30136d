"""Owns the listener, the life of each connection, and the drain."""

import asyncio
import logging
import resource
from contextlib import suppress

from ticketd.commits.clients import SHUTTING_DOWN
from ticketd.errors import TicketError
from ticketd.serving.connection import Connection
from ticketd.serving.service import Service

log = logging.getLogger(__name__)

BACKLOG = 1_024
# How many connections at once get the reason why they are refused. More are closed without one.
TURNED_AWAY_MAX = 64
# File descriptors that are left to the ledger, the events file and the listener.
DESCRIPTORS_RESERVED = 32


class Server:
    """Accepts connections, serves at most ``connections_max`` of them at once, and ends them all in ``drain``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._places = service.places
        self._tasks: set[asyncio.Task[None]] = set()
        self._served: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        # Why every connection must end, once a drain has begun.
        self._drain_error: TicketError | None = None
        self._turned_away = 0
        self._logged_descriptors = False

    async def listen(self, host: str, port: int) -> list[str]:
        """Listen, and return the addresses as ``host:port``. Port 0 is any free port. Raises OSError, UnicodeError."""
        self._listener = await asyncio.start_server(self._on_connection, host, port, backlog=BACKLOG)
        return [_address(socket.getsockname()) for socket in self._listener.sockets]

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let sessions answer what they have read, and close. After ``seconds``, cut off the rest."""
        if self._listener:
            self._listener.close()
        self._drain_error = TicketError("shutting_down", SHUTTING_DOWN)
        self._service.draining = True
        self._places.refuse_all(self._drain_error)
        for connection in list(self._served):
            connection.interrupt(self._drain_error)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # In a loop: connections that were accepted before may still add tasks.
                while self._tasks:
                    await asyncio.wait(self._tasks)
        if self._tasks:
            log.warning("cut off connections=%d after_seconds=%g", len(self._tasks), seconds)
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=1)

    def _on_connection(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._descriptors_ran_out():
            writer.transport.abort()
            return
        # A plain function, not a coroutine: the task is registered before a drain can look for it, and start_server
        # does not log an error when it is cancelled.
        task = asyncio.get_running_loop().create_task(self._handle(Connection(writer, self._service)))
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _descriptors_ran_out(self) -> bool:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY or len(self._tasks) < limit - DESCRIPTORS_RESERVED:
            return False
        if not self._logged_descriptors:
            self._logged_descriptors = True
            log.warning("open files are limited to %d; connections past that are closed unserved", limit)
        return True

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a bug ended a connection", exc_info=error)

    async def _handle(self, connection: Connection) -> None:
        try:
            try:
                place = await self._places.take(connection.address)
            except TicketError as refusal:
                await self._turn_away(connection, refusal.with_traceback(None))
                return
            self._service.connections += 1
            try:
                await self._serve(connection)
            finally:
                self._service.connections -= 1
                self._places.release(connection.address, place)
        finally:
            connection.abort()

    async def _serve(self, connection: Connection) -> None:
        if self._drain_error:
            connection.interrupt(self._drain_error)
        self._served.add(connection)
        error: TicketError | None = None
        try:
            await connection.serve()
        except TicketError as raised:
            # All connections raise the same error in a drain; its traceback would keep them all alive.
            error = raised.with_traceback(None)
        except OSError:
            log.debug("lost peer=%s", connection.peer)
        finally:
            self._served.discard(connection)
        await connection.close_gracefully(error)

    async def _turn_away(self, connection: Connection, refusal: TicketError) -> None:
        if self._turned_away >= TURNED_AWAY_MAX:
            return
        log.info("turned away peer=%s code=%s", connection.peer, refusal.code)
        self._turned_away += 1
        try:
            await connection.close_gracefully(refusal)
        finally:
            self._turned_away -= 1


def _address(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
