"""The URL of a database, and how it is named where others may read it."""

from urllib.parse import parse_qs, urlsplit

_HINT = "it is postgresql://user:password@host:port/database, where / is %2F in a password, # %23, ? %3F and @ %40"


def is_database_url(store: str) -> bool:
    """Whether this is meant to be the URL of a database, and not a path."""
    return store.lower().startswith(("postgresql:", "postgres:"))


def public_name(url: str) -> str:
    """Return host, port and database of a URL, without its secrets, or raise ValueError, also without them."""
    parts = urlsplit(url)
    # What stands behind a character that had to be written with % may be a part of the password.
    misplaced = (
        "@" in parts.path + parts.query
        or parts.fragment
        or not url.lower().startswith(("postgresql://", "postgres://"))
    )
    try:
        port = parts.port
    except ValueError:
        misplaced = True
    if misplaced:
        raise ValueError(_HINT)
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = parts.hostname or asked.get("host", "localhost")
    return f"{host}:{port or asked.get('port', 5432)}{parts.path or '/' + asked.get('dbname', '')}"
