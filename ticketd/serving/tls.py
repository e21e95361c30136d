"""Owns the greeting of connections on a port that speaks TLS."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from ticketd.errors import TicketError
from ticketd.wire import codec
from ticketd.wire.replies import error_reply

log = logging.getLogger(__name__)

# How long the first byte, and then the handshake, may take.
HANDSHAKE_SECONDS_MAX = 10.0
# The first byte of what TLS says first.
_HANDSHAKE_RECORD = 0x16
_PLAIN = TicketError("bad_frame", "this port speaks TLS; connect with TLS, as ticketctl --tls does")

OnConnection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


async def bind(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Return sockets that listen on all addresses of a host. Raises OSError or UnicodeError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, *_, address in dict.fromkeys(found):
            sockets.append(socket.create_server(address[:2], family=family, backlog=backlog))
            sockets[-1].setblocking(False)
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets


async def greet(accepted: socket.socket, context: ssl.SSLContext, on_connection: OnConnection) -> None:
    """Begin TLS on a connection, and then call ``on_connection`` as ``asyncio.start_server`` does.

    If the other side does not begin TLS, it is told so, and the connection is closed.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            first = await _first_byte(accepted)
        if first != _HANDSHAKE_RECORD:
            accepted.send(codec.encode(error_reply(_PLAIN)) + b"\n")
            accepted.shutdown(socket.SHUT_WR)
            raise ConnectionResetError("it does not speak TLS")
        await loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), on_connection),
            accepted,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX,
        )
    except (OSError, TimeoutError) as error:
        log.debug("no TLS: %s", error)
        accepted.close()


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
