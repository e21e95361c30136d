"""Finds out who is on the other side of a new connection."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

# The process, the user and the group on the other side of a unix socket. The last two are unsigned.
_CREDENTIALS = struct.Struct("iII")
LOOPBACK = frozenset({"127.0.0.1", "::1"})
UNIX = "unix"
LOCAL = LOOPBACK | {UNIX}


@dataclass(eq=False)
class Accepted:
    """A connection that was accepted at ``since``, in seconds of the loop's clock.

    ``address`` counts it; ``peer`` is its name in the log. ``uid`` is that of the user on the other side of a unix
    socket.
    """

    writer: asyncio.StreamWriter
    since: float
    address: str
    peer: str
    uid: int | None = None

    @property
    def owner(self) -> str:
        """What counts as one client where it matters who it is: a user of this machine, or an address."""
        return self.peer if self.uid is not None else owner(self.address)

    @property
    def is_private(self) -> bool:
        """Whether nobody else can read what it carries."""
        return self.address in LOCAL or self.writer.get_extra_info("ssl_object") is not None


def plain(address: str) -> str:
    """Return the IPv4 address that a socket for IPv4 and IPv6 shows as an address of IPv6, and any other as it is."""
    mapped = IPv6Address(address).ipv4_mapped if ":" in address else None
    return str(mapped) if mapped else address


def owner(address: str) -> str:
    """Return what counts as one address: for IPv6 a /64 network, since one client often has all addresses of it."""
    return IPv6Address(address).packed[:8].hex() if ":" in address else address


def accepted(writer: asyncio.StreamWriter, since: float) -> Accepted:
    """Return what is known of a connection that was accepted at ``since``."""
    if writer.get_extra_info("socket").family == socket.AF_UNIX:
        uid = _peer_uid(writer.get_extra_info("socket"))
        return Accepted(writer, since, UNIX, f"{UNIX}:{uid}", uid)
    try:
        address, port = writer.get_extra_info("peername")[:2]
        address = plain(address)
    except (AttributeError, OSError, TypeError):
        # The client is gone already; uvloop raises AttributeError then.
        address, port = "unknown", 0
    return Accepted(writer, since, address, f"{address}:{port}")


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    # The name is not looked up here: that may be slow.
    return int(uid)
