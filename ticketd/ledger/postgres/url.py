"""Owns the URLs of databases: recognizes them, and makes names without secrets for logs and messages."""

from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

_HINT = "write postgresql://user:password@host:port/database; in a password, %2F for /, %23 for #, %3F for ?, %40 for @"
# Parameters of a URL that are secrets.
_SECRETS = {"password", "sslpassword"}
_SCHEMES = ("postgresql://", "postgres://")


def is_database_url(ledger: str) -> bool:
    """Whether this looks like the URL of a database and not like a path."""
    return ledger.lower().startswith(("postgresql:", "postgres:"))


def public_name(url: str) -> str:
    """Return host, port and database of a URL. Raises ValueError if it is not valid. Neither contains a secret."""
    parts = urlsplit(url)
    # If a character of the password was not escaped, what follows it may be a part of the password.
    if "@" in parts.path + parts.query + parts.fragment or not url.lower().startswith(_SCHEMES):
        raise ValueError(_HINT)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    hosts = parts.netloc.rpartition("@")[2] or ":".join(
        filter(None, (query.get("host", "localhost"), query.get("port")))
    )
    return hosts + (parts.path or f"/{query.get('dbname', '')}")


def without_password(url: str) -> str:
    """Return the URL without its secrets, for commands: the password can come from ``~/.pgpass``."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name not in _SECRETS], safe="/,")
    return parts._replace(netloc=user.partition(":")[0] + at + hosts, query=query).geturl()
