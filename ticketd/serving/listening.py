"""Opens the sockets on which the daemon listens. They are bound first, and take connections once somebody listens."""

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

# The family and the address of a socket.
Address = tuple[int, tuple[object, ...]]


async def resolve(host: str, port: int) -> list[Address]:
    """Return all addresses of a host. Raises OSError or UnicodeError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, *_, address in found))


def bind(addresses: Sequence[Address]) -> list[socket.socket]:
    """Return a socket for each address, which refuses connections so far. Raises OSError."""
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            sockets.append(socket.socket(family, socket.SOCK_STREAM))
            sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # What comes by IPv4 has a socket of its own.
                sockets[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sockets[-1].bind(address)
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Return a unix socket whose file has this mode, which refuses connections so far. Raises OSError."""
    remove_stale(path)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unix.bind(str(path))
        try:
            path.chmod(mode)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except BaseException:
        unix.close()
        raise
    return unix


def remove_stale(path: Path) -> None:
    """Remove the file of a unix socket on which nobody listens any more. Raises OSError if it is anything else."""
    if not path.is_socket():
        if os.path.lexists(path):
            raise OSError("it exists and is no socket")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another program listens on it")


def name_of(listening: socket.socket) -> str:
    """Return the address of a socket, as ``host:port`` or ``unix:path``."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(listening.getsockname())}"
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_reached_by_others(address: Address) -> bool:
    """Whether other machines reach it."""
    family, (host, *_) = address
    return family != socket.AF_UNIX and not ip_address(str(host)).is_loopback
