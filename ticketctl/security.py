"""Owns how ticketctl says who it is, and checks whom it talks to: the token file and TLS."""

import re
import socket
import ssl
import stat
from pathlib import Path

from ticketd.wire.requests import TOKEN_CHARS_MAX, TOKEN_CHARS_MIN

_SECRET = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_CHARS_MIN},{TOKEN_CHARS_MAX}}}")


class TlsError(Exception):
    """TLS could not begin; the message says why, without a full stop."""


def read_token(file: str) -> str:
    """Return the secret in a file. Raises ValueError, whose message tells nothing of it.

    The file must be for its owner alone.
    """
    path = Path(file)
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(f"others can read the token file {file}; take that away: chmod 600 {file}")
        secret = path.read_bytes()[: TOKEN_CHARS_MAX + 2].decode(errors="replace").strip()
    except OSError as error:
        raise ValueError(f"cannot read the token file {file} ({(error.strerror or str(error)).lower()})") from None
    if not _SECRET.fullmatch(secret):
        raise ValueError(f"the token file {file} must have one line, with what ticketd access add printed")
    return secret


def tls_context(authorities: str | None) -> ssl.SSLContext:
    """Return what checks the certificates of servers, by those of a file if there is one. Raises ValueError."""
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        reason = (getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)).lower()
        raise ValueError(f"cannot use the certificates in {authorities} ({reason}); it must be a PEM file") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def begin_tls(connection: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Begin TLS on a new connection. Raises TlsError."""
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        why = f"its certificate is not accepted: {error.verify_message.lower()}"
    except ssl.SSLError as error:
        why = f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
    except (OSError, ValueError) as error:
        why = f"TLS failed: {(getattr(error, 'strerror', None) or str(error)).lower()}"
    connection.close()
    raise TlsError(why)


def has_tls_input(connection: socket.socket) -> bool:
    """Whether there is something to read, or the end. Messages of TLS itself do not count."""
    connection.settimeout(0)
    try:
        connection.recv(1)
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    return True
