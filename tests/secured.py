"""Daemons that do not let everybody do everything: access files, tokens, TLS, and connections of all kinds to them."""

import hashlib
import os
import pwd
import socket
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.daemon import REPLY_SECONDS_MAX, Connection, Daemon

ROLES = ("reader", "seller", "door", "manager", "admin")
# Certificates of localhost and 127.0.0.1, with their keys; and one of these keys, encrypted.
CERTIFICATES = Path(__file__).parent / "certificates"
RSA, EC, LOCKED_KEY = CERTIFICATES / "rsa.pem", CERTIFICATES / "ec.pem", CERTIFICATES / "locked.key"
ME = pwd.getpwuid(os.getuid()).pw_name


def secret(name: str) -> str:
    """Return the secret of a token in ``write_access``."""
    return name.ljust(43, "-")


def access(tokens: Mapping[str, str] | Iterable[str] = ROLES, **more: Any) -> bytes:
    """Return an access file in which tokens have these roles; by default, each role has a token with its name."""
    roles = tokens if isinstance(tokens, Mapping) else {name: name for name in tokens}
    listed = [
        {"name": name, "role": role, "sha256": hashlib.sha256(secret(name).encode()).hexdigest()}
        for name, role in roles.items()
    ]
    return msgspec.json.encode({"tokens": listed, **more})


def write_access(file: Path, tokens: Mapping[str, str] | Iterable[str] = ROLES, **more: Any) -> str:
    """Write an access file, and return its path."""
    file.write_bytes(access(tokens, **more))
    file.chmod(0o600)
    return str(file)


class Reached(Connection):
    """A raw connection over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._file = connected.makefile("rb")

    def __enter__(self) -> "Reached":
        return self

    def auth(self, name: str) -> dict[str, Any]:
        """Say who this is, and return the reply."""
        return self.ask(f"auth {secret(name)}")


def tls_context(certificate: Path = RSA) -> ssl.SSLContext:
    """Return a context that trusts only this certificate."""
    return ssl.create_default_context(cafile=certificate)


def plain(daemon: Daemon, address: str = "") -> Reached:
    """Connect over TCP, from an address of this machine such as 127.0.0.2."""
    return Reached(socket.create_connection(("127.0.0.1", daemon.port), REPLY_SECONDS_MAX, (address, 0)))


def over_tls(daemon: Daemon, context: ssl.SSLContext | None = None, address: str = "") -> Reached:
    """Connect over TLS."""
    connected = socket.create_connection(("127.0.0.1", daemon.port), REPLY_SECONDS_MAX, (address, 0))
    # The first line would wait until the end of the handshake is acknowledged, which takes 40 ms.
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Reached((context or tls_context()).wrap_socket(connected, server_hostname="127.0.0.1"))


def over_unix(path: Path) -> Reached:
    """Connect over a unix socket."""
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(REPLY_SECONDS_MAX)
    connected.connect(str(path))
    return Reached(connected)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
