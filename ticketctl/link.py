"""Opens connections: over TCP or a unix socket, with or without TLS. Knows no requests."""

import select
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    # Importing it takes longer than most commands.
    import ssl

UNIX_PREFIX = "unix:"


class Encryption(Protocol):
    """How connections are encrypted, and how it is checked who is on the other side."""

    context: "ssl.SSLContext"

    def begin(self, connection: socket.socket, host: str) -> socket.socket:
        """Begin on a new connection. Raises OSError or ValueError, and then closes the connection."""
        ...

    def why(self, error: Exception) -> str:
        """Return in words why it could not begin."""
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
    """A secret that says who somebody is. With ``allow_plaintext``, it may be sent without TLS, for others to read."""

    def __init__(self, secret: str, allow_plaintext: bool = False) -> None:
        self._secret = secret
        self.allow_plaintext = allow_plaintext

    @property
    def secret(self) -> str:
        """What a connection begins with."""
        return self._secret

    def __repr__(self) -> str:
        """Show nothing of the secret."""
        return "Token(...)"


class CannotOpenError(Exception):
    """No connection could be opened; the message says why. Nothing was sent but the beginning of TLS."""


def open_connection(where: Where, seconds: float) -> socket.socket:
    """Return a new connection. Raises CannotOpenError, also if it takes longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    try:
        if where.host.startswith(UNIX_PREFIX):
            return _connected(socket.AF_UNIX, where.host.removeprefix(UNIX_PREFIX), deadline)
        connection = _open_tcp(where, deadline)
    except (socket.gaierror, ValueError) as error:
        raise unknown_host(where, error) from None
    except OSError as error:
        raise unreachable(where, (error.strerror or str(error)).lower()) from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if where.tls is None:
        return connection
    try:
        connection.settimeout(_left(deadline))
        return where.tls.begin(connection, where.host)
    except TimeoutError:
        connection.close()
        raise unreachable(where, "it did not answer TLS in time") from None
    except (OSError, ValueError) as error:
        raise not_trusted(where, where.tls.why(error)) from None


def unknown_host(where: Where, error: Exception) -> CannotOpenError:
    """Return the error if the host has no address."""
    why = (getattr(error, "strerror", None) or str(error)).lower()
    return CannotOpenError(f"cannot reach {where} ({why}); check --host (TICKETD_HOST)")


def unreachable(where: Where, why: str) -> CannotOpenError:
    """Return the error if nothing listens there, or does not answer."""
    return CannotOpenError(f"cannot reach {where} ({why}). Is ticketd running?")


def not_trusted(where: Where, why: str) -> CannotOpenError:
    """Return the error if something listens there, but TLS with it failed."""
    return CannotOpenError(f"cannot talk to {where}: {why}")


def check_private(where: Where, token: Token | None, peer: Any) -> None:
    """Raise CannotOpenError if a token would go where others on the network can read it.

    ``peer`` is the address at the other end, as sockets tell it.
    """
    if token is None or token.allow_plaintext or where.tls or where.host.startswith(UNIX_PREFIX):
        return
    address: str = peer[0]
    if not (address.startswith("127.") or address == "::1"):
        raise CannotOpenError(
            f"the token would go to {where} unencrypted, for others to read; use --tls, or --plain-token"
        )


def _open_tcp(where: Where, deadline: float) -> socket.socket:
    """Return a connection to the first address of the host that takes one. Raises OSError, and ValueError."""
    failure = OSError("the host has no address")
    for family, _, _, _, address in socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM):
        try:
            return _connected(family, address, deadline)
        except OSError as error:
            failure = error
    raise failure


def _connected(family: int, address: Any, deadline: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _left(deadline: float) -> float:
    """Return how many seconds are left. Raises TimeoutError if none are."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def has_input(connection: socket.socket, where: Where) -> bool:
    """Whether there is something to read, or the other side has closed the connection."""
    # Not select, which takes no file descriptors above 1,023.
    readable = select.poll()
    readable.register(connection, select.POLLIN)
    if not readable.poll(0):
        return False
    return where.tls is None or where.tls.has_input(connection)
