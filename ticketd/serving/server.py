"""Owns the listener, the life of each connection, and the drain."""

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from ticketd.commits.clients import SHUTTING_DOWN
from ticketd.errors import TicketError
from ticketd.serving.accepting import accepted, owner, plain
from ticketd.serving.connection import Connection
from ticketd.serving.service import STRANGERS_SHARE, Service
from ticketd.serving.strangers import Strangers
from ticketd.serving.tls import greet

log = logging.getLogger(__name__)

BACKLOG = 1_024
# After an error, such as too many open files.
ACCEPT_RETRY_SECONDS = 0.1
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
        self._listeners: list[asyncio.Server] = []
        # What connections are greeted with from now on, if the port speaks TLS.
        self.tls: ssl.SSLContext | None = None
        self._accepting: list[asyncio.Task[None]] = []
        # Connections that have not begun TLS.
        self._greetings = Strangers(service.limits.connections_max // STRANGERS_SHARE)
        # Why every connection must end, once a drain has begun.
        self._drain_error: TicketError | None = None
        self._turned_away = 0
        self._logged_descriptors = False

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on these sockets, with TLS if they are no unix sockets. Raises OSError."""
        self.tls = tls
        for each in sockets:
            if each.family == socket.AF_UNIX:
                unix = await asyncio.start_unix_server(self._on_connection, sock=each, backlog=BACKLOG)
                self._listeners.append(unix)
            elif tls:
                each.listen(BACKLOG)
                each.setblocking(False)
                self._accepting.append(asyncio.create_task(self._accept(each)))
                self._accepting[-1].add_done_callback(_raise_bug)
            else:
                self._listeners.append(await asyncio.start_server(self._on_connection, sock=each, backlog=BACKLOG))

    def recheck(self) -> int:
        """After the access list was replaced: end the connections whose tokens are gone, and return how many."""
        return sum(not connection.recheck() for connection in list(self._served))

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let sessions answer what they have read, and close. After ``seconds``, cut off the rest."""
        for listener in self._listeners:
            listener.close()
        for accepting in self._accepting:
            accepting.cancel()
        self._greetings.end_all()
        self._drain_error = TicketError("shutting_down", SHUTTING_DOWN, unasked=True)
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

    async def _accept(self, listening: socket.socket) -> None:
        """Accept connections that begin with TLS, until this is cancelled."""
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, address = await loop.sock_accept(listening)
                except OSError as error:
                    log.warning("cannot accept connections: %s", error.strerror)
                    await asyncio.sleep(ACCEPT_RETRY_SECONDS)
                    continue
                if self._has_room():
                    self._run(self._greet(accepted, owner(plain(address[0])), loop.time()))
                else:
                    accepted.close()

    async def _greet(self, accepted: socket.socket, owner: str, since: float) -> None:
        """Begin TLS on a connection. It may be ended until that has begun."""
        greeting = asyncio.current_task()
        assert greeting
        assert self.tls

        def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._greetings.discard(greeting)
            if greeting.cancelling():
                # It closes, so nothing that it has sent must be done.
                writer.transport.abort()
            else:
                self._on_connection(reader, writer, since)

        if self._drain_error:
            accepted.close()
            return
        self._greetings.add(greeting, owner, greeting.cancel)
        try:
            await greet(accepted, since, self.tls, on_connection)
        finally:
            self._greetings.discard(greeting)

    def _on_connection(
        self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, since: float | None = None
    ) -> None:
        if self._has_room():
            since = asyncio.get_running_loop().time() if since is None else since
            self._run(self._handle(Connection(accepted(writer, since), self._service)))
        else:
            writer.transport.abort()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        # Not from a coroutine that start_server calls: the task is registered before a drain can look for it, and
        # start_server does not log an error when it is cancelled.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _has_room(self) -> bool:
        """Whether there are file descriptors for one more. If there are none, a stranger has to make room."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY or len(self._tasks) < limit - DESCRIPTORS_RESERVED:
            return True
        # Theirs is free a moment later, so many at once may take those that are reserved, but not all of them.
        if len(self._tasks) < limit - DESCRIPTORS_RESERVED // 2 and (
            self._greetings.end_one() or self._service.strangers.end_one() or self._service.anonymous.end_one()
        ):
            return True
        if not self._logged_descriptors:
            self._logged_descriptors = True
            log.warning("open files are limited to %d; connections past that are closed unserved", limit)
        return False

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


def _raise_bug(accepting: asyncio.Task[None]) -> None:
    """Raise the error that ended it to the loop, which ends the daemon: nobody could connect any more."""
    if not accepting.cancelled():
        accepting.result()
