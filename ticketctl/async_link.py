"""Opens connections on an asyncio loop: over TCP or a unix socket, with or without TLS."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable

from ticketctl.link import (
    UNIX_PREFIX,
    CannotOpenError,
    Token,
    Where,
    check_private,
    not_trusted,
    unknown_host,
    unreachable,
)


async def open_transport(
    where: Where, token: Token | None, protocol: Callable[[], asyncio.Protocol]
) -> asyncio.Transport:
    """Open a connection for a protocol, over which the token may be sent. Raises CannotOpenError."""
    loop = asyncio.get_running_loop()
    try:
        if where.host.startswith(UNIX_PREFIX):
            transport, _ = await loop.create_unix_connection(protocol, where.host.removeprefix(UNIX_PREFIX))
        else:
            context = where.tls.context if where.tls else None
            transport, _ = await loop.create_connection(protocol, where.host, where.port, ssl=context)
    except ssl.SSLError as error:
        assert where.tls
        raise not_trusted(where, where.tls.why(error)) from None
    except (socket.gaierror, ValueError) as error:
        raise unknown_host(where, error) from None
    except OSError as error:
        raise unreachable(where, _why(error).lower()) from None
    try:
        check_private(where, token, transport.get_extra_info("peername"))
    except CannotOpenError:
        transport.abort()
        raise
    return transport


def _why(error: OSError) -> str:
    # What asyncio says instead repeats the address.
    return os.strerror(error.errno) if error.errno else str(error)
