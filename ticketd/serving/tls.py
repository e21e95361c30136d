"""Owns the greeting of connections on a port that speaks TLS."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from ticketd.errors import TicketError
from ticketd.serving.strangers import STRANGER_SECONDS_MAX
from ticketd.serving.stream import LINGER_SECONDS_MAX
from ticketd.wire.codec import error_line

log = logging.getLogger(__name__)

_DROPPED_BYTES = 64 * 1024
# asyncio takes no timeout of 0.
_LEAST_SECONDS = 0.001
# The first byte of what TLS says first.
_HANDSHAKE_RECORD = 0x16
_PLAIN = TicketError("bad_frame", "this port speaks TLS; connect with TLS, as ticketctl --tls does")

OnConnection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


async def greet(accepted: socket.socket, since: float, context: ssl.SSLContext, on_connection: OnConnection) -> None:
    """Begin TLS on a connection, and then call ``on_connection`` as ``asyncio.start_server`` does.

    It has STRANGER_SECONDS_MAX for that since it was accepted, at ``since`` in seconds of the loop's clock. If the
    other side does not begin TLS, it is told so, and the connection is closed.
    """
    loop = asyncio.get_running_loop()
    begins = False
    try:
        async with asyncio.timeout_at(since + STRANGER_SECONDS_MAX):
            begins = await _first_byte(accepted) == _HANDSHAKE_RECORD
        if not begins:
            await _refuse(accepted)
    except OSError as error:
        log.debug("no TLS: %s", error)
    finally:
        if not begins:
            accepted.close()
    if not begins:
        return
    try:
        # From now on, the socket is the transport's: it closes it, whatever happens.
        await loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), on_connection),
            accepted,
            ssl=context,
            ssl_handshake_timeout=max(since + STRANGER_SECONDS_MAX - loop.time(), _LEAST_SECONDS),
        )
    except OSError as error:
        log.debug("no TLS: %s", error)


async def _refuse(accepted: socket.socket) -> None:
    """Say that this port speaks TLS, and read on for a moment: unread input would make the kernel drop that."""
    accepted.send(error_line(_PLAIN))
    accepted.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(LINGER_SECONDS_MAX):
        while await asyncio.get_running_loop().sock_recv(accepted, _DROPPED_BYTES):
            pass


async def _first_byte(accepted: socket.socket) -> int:
    """Return the first byte of the input, without taking it. Raises ConnectionResetError if there is none."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(accepted, on_readable)
    try:
        await readable
    finally:
        loop.remove_reader(accepted)
    if first := accepted.recv(1, socket.MSG_PEEK):
        return first[0]
    raise ConnectionResetError("it was closed before it said anything")
