"""Owns the URLs of databases: recognizes them, reads their hosts, and makes names without secrets for messages."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

PORT = 5432
_HINT = (
    "is not the URL of a database; write postgresql://user:password@host:port/database; in a password, %2F for /, %23"
    " for #, %3F for ?, %40 for @"
)
# Parameters of a URL that are secrets.
_SECRETS = {"password", "sslpassword"}
_SCHEMES = ("postgresql://", "postgres://")
_NO_TIMEOUTS = "leave it out: ticketd gives up on a connection that does not answer within seconds"
# Parameters of libpq that are refused, and what to do instead. The driver, which does not know them, would send them to
# the server as settings.
_REFUSED = {
    "connect_timeout": "leave it out: ticketd gives each host 2 s",
    "keepalives": _NO_TIMEOUTS,
    "keepalives_idle": _NO_TIMEOUTS,
    "keepalives_interval": _NO_TIMEOUTS,
    "keepalives_count": _NO_TIMEOUTS,
    "tcp_user_timeout": _NO_TIMEOUTS,
    "channel_binding": "leave it out, and use sslmode=verify-full",
    "hostaddr": "write the address as the host",
    "service": "write host, port and database of the service into the URL",
}
# Parameters of libpq with the values that are accepted, since they say what ticketd does anyway; and what to do instead
# of others.
_ACCEPTED = {
    "gssencmode": (("disable", "prefer"), "to encrypt, use sslmode=verify-full"),
    "load_balance_hosts": (("disable",), "leave it out: ticketd sells on the one primary"),
    "target_session_attrs": (("any", "read-write", "primary"), "leave it out: ticketd sells on the one primary"),
}
_HOST = re.compile(r"(?P<name>/.*|[^:\[]*|\[(?P<v6>[^\]]+)\])(:(?P<port>[0-9]+))?")


class Host(NamedTuple):
    """An address where a PostgreSQL may listen. Without a name, the driver tries the usual ones of this machine."""

    name: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        """As it stands in a URL."""
        if self.name is None:
            return "localhost"
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def is_database_url(ledger: str) -> bool:
    """Whether this looks like the URL of a database and not like a path."""
    return ledger.lower().startswith(("postgresql:", "postgres:"))


def public_name(url: str) -> str:
    """Return hosts, ports and database of a URL, without secrets.

    Raises ValueError if ticketd cannot use the URL. Its message says why, without secrets, and begins with a verb: the
    caller puts a subject before it, such as ``--ledger``.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_HINT) from None
    # If a character of the password was not escaped, what follows it may be a part of the password.
    if "@" in parts.path + parts.query + parts.fragment or not url.lower().startswith(_SCHEMES):
        raise ValueError(_HINT)
    query = _query(url)
    for name, value in query.items():
        if instead := _REFUSED.get(name):
            raise ValueError(f"cannot have {name}; {instead}")
        values, instead = _ACCEPTED.get(name, ((value,), ""))
        if value not in values:
            raise ValueError(f"cannot have {name}={value}; {instead}")
    hosts_of(url)
    hosts = parts.netloc.rpartition("@")[2] or ":".join(
        filter(None, (query.get("host", "localhost"), query.get("port")))
    )
    return hosts + (parts.path or f"/{query.get('dbname', '')}")


def hosts_of(url: str) -> list[Host]:
    """Return the hosts of a URL, found as the driver finds them. Raises ValueError as ``public_name`` does."""
    query = _query(url)
    written = urlsplit(url).netloc.rpartition("@")[2]
    ports = None if written else query.get("port")
    written = written or query.get("host") or os.environ.get("PGHOST", "")
    if not written:
        return [Host(None, _ports(ports, 1)[0] if ports else None)]
    found = [_HOST.fullmatch(each) for each in written.split(",")]
    defaults = _ports(ports or os.environ.get("PGPORT") or str(PORT), len(found))
    hosts = []
    for match, default in zip(found, defaults, strict=True):
        if not match or not match["name"]:
            raise ValueError(_HINT)
        port = default if ports or not match["port"] else _ports(match["port"], 1)[0]
        hosts.append(Host(unquote(match["v6"] or match["name"]), port))
    return hosts


def for_driver(url: str) -> str:
    """Return the URL as the driver understands it, with the name of the application.

    The driver takes any kind of server, whatever its environment says: ticketd checks that itself, and says why not.
    """
    parts = urlsplit(url)
    query = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _ACCEPTED}
    query = {"application_name": "ticketd"} | query | {"target_session_attrs": "any"}
    return parts._replace(query=urlencode(query, quote_via=quote)).geturl()


def without_password(url: str) -> str:
    """Return the URL without its secrets, for commands: the password can come from ``~/.pgpass``."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name not in _SECRETS], safe="/,")
    return parts._replace(netloc=user.partition(":")[0] + at + hosts, query=query).geturl()


def _query(url: str) -> dict[str, str]:
    """Return the parameters of a URL. If one is given twice, the last counts."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}


def _ports(written: str, hosts: int) -> Sequence[int]:
    """Return a port for each of so many hosts. Raises ValueError as ``public_name`` does."""
    ports = written.split(",")
    if not all(port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16 for port in ports):
        raise ValueError(_HINT)
    if len(ports) not in (1, hosts):
        raise ValueError(f"has {len(ports)} ports for {hosts} hosts; give each host its own, or all of them one")
    return [int(port) for port in ports] * (hosts if len(ports) == 1 else 1)
