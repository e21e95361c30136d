"""Opens connections: over TCP or a unix socket, with or without TLS. Knows no requests."""

import select
import socket
from typing import NamedTuple, Protocol

UNIX_PREFIX = "unix:"


class Encryption(Protocol):
    """How connections are encrypted, and how it is checked who is on the other side."""

    def begin(self, connection: socket.socket, host: str) -> socket.socket:
        """Begin on a new connection. Raises NotTrustedError, and TimeoutError if that takes too long."""
        ...

    def has_input(self, connection: socket.socket) -> bool:
        """Whether there is something to read, or the end, if the socket is readable."""
        ...


class Where(NamedTuple):
    """Where a daemon listens. ``host`` may be ``unix:PATH``; then the port does not count.

    With ``tls``, the connection is encrypted, and the name of the host is checked.
    """

    host: str
    port: int
    tls: Encryption | None = None

    def __str__(self) -> str:
        """Return it as people write it."""
        if self.host.startswith(UNIX_PREFIX):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Token:
    """A secret that says who somebody is. ``may_be_read`` allows to send it where others can read it."""

    def __init__(self, secret: str, may_be_read: bool = False) -> None:
        self._secret = secret
        self.may_be_read = may_be_read

    @property
    def secret(self) -> str:
        """What a connection begins with."""
        return self._secret

    def __repr__(self) -> str:
        """Show nothing of the secret."""
        return "Token(...)"


class CannotOpenError(Exception):
    """No connection could be opened; the message says why, without a full stop."""


class UnknownHostError(CannotOpenError):
    """The host has no address."""


class NotTrustedError(CannotOpenError):
    """Something listens there, but TLS with it failed. Nothing was sent but the beginning of TLS."""


def open_connection(where: Where, seconds: float) -> socket.socket:
    """Return a new connection. Raises CannotOpenError, also if it takes longer than ``seconds``."""
    try:
        if where.host.startswith(UNIX_PREFIX):
            return _open_unix(where.host.removeprefix(UNIX_PREFIX), seconds)
        connection = socket.create_connection((where.host, where.port), seconds)
    except (socket.gaierror, UnicodeError) as error:
        raise UnknownHostError((getattr(error, "strerror", None) or str(error)).lower()) from None
    except OSError as error:
        raise CannotOpenError((error.strerror or str(error)).lower()) from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if where.tls is None:
        return connection
    try:
        return where.tls.begin(connection, where.host)
    except TimeoutError:
        raise CannotOpenError("it did not answer TLS in time") from None


def _open_unix(path: str, seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def has_input(connection: socket.socket, where: Where) -> bool:
    """Whether there is something to read, or the other side has closed the connection."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    return where.tls is None or where.tls.has_input(connection)


def is_private(connection: socket.socket, where: Where) -> bool:
    """Whether nobody on the network can read what goes over it."""
    if where.tls or connection.family == socket.AF_UNIX:
        return True
    address: str = connection.getpeername()[0]
    return address.startswith("127.") or address == "::1"
