"""Owns which sockets the daemon has: those that systemd hands over, or else those of its options.

They are bound before there is a ledger: whoever cannot listen has changed nothing.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from ticketd.config import Options
from ticketd.security import CannotListenError, Security
from ticketd.serving.listening import Address, bind, bind_unix, name_of, remove_stale, resolve
from ticketd.serving.server import Server
from ticketd.systemd import inherited_sockets

if TYPE_CHECKING:
    from ticketd.serving.monitor import Monitor

log = logging.getLogger(__name__)

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Sockets(NamedTuple):
    """What to listen on, for those who buy and for those who watch the daemon."""

    service: list[socket.socket]
    metrics: list[socket.socket]


async def open_sockets(options: Options, security: Security) -> Sockets:
    """Return sockets that are bound, and refuse connections so far. Raises CannotListenError."""
    service = _inherited(security)
    if service:
        log.info("sockets were handed over, so --host and --port are ignored")
    else:
        service = await _bound(options.host, options.port, "--port or --host", security.check_service)
    if options.unix:
        # Its file is made later: whoever is refused the ledger must not take it from the one who serves that.
        try:
            remove_stale(options.unix)
        except OSError as error:
            raise _cannot_listen(str(options.unix), "--unix", error) from None
    metrics: list[socket.socket] = []
    if options.metrics:
        metrics = await _bound(*options.metrics, "--metrics", security.check_metrics)
    return Sockets(service, metrics)


async def listen(server: Server, sockets: list[socket.socket], options: Options, security: Security) -> str:
    """Accept connections, and return the addresses for the log. Raises CannotListenError."""
    where, choice = ",".join(map(name_of, sockets)), "--port or --host"
    try:
        await server.listen(sockets, security.tls)
        if options.unix:
            where, choice = str(options.unix), "--unix"
            sockets.append(bind_unix(options.unix, options.unix_mode))
            await server.listen(sockets[-1:], security.tls)
    except OSError as error:
        raise _cannot_listen(where, choice, error) from None
    return ",".join(map(name_of, sockets))


async def listen_for_metrics(monitor: "Monitor", sockets: list[socket.socket]) -> str:
    """Answer those who watch the daemon, and return the addresses for the log. Raises CannotListenError."""
    addresses = ",".join(map(name_of, sockets))
    try:
        await monitor.listen(sockets)
    except OSError as error:
        raise _cannot_listen(addresses, "--metrics", error) from None
    return addresses


async def _bound(
    host: str, port: int, choice: str, check: Callable[[str, Iterable[Address]], None]
) -> list[socket.socket]:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        addresses = await resolve(host, port)
        check(where, addresses)
        return bind(addresses)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(where, choice, error) from None


def _inherited(security: Security) -> list[socket.socket]:
    try:
        sockets = inherited_sockets()
    except OSError as error:
        raise CannotListenError(f"a descriptor that was handed over is no socket ({error.strerror})") from None
    except ValueError as error:
        raise CannotListenError(f"cannot listen: {error}") from None
    for each in sockets:
        if each.family not in _FAMILIES or each.type != socket.SOCK_STREAM:
            raise CannotListenError("a socket that was handed over carries no streams; systemd needs ListenStream=")
        security.check_service(name_of(each), [(each.family, each.getsockname())])
    return sockets


def _cannot_listen(where: str, choice: str, error: Exception) -> CannotListenError:
    number = getattr(error, "errno", None) or 0
    # The numbers of failed look-ups are negative, and say nothing.
    reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
    return CannotListenError(f"cannot listen on {where}: {reason}; choose another {choice}")
