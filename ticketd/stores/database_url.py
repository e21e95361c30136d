"""The URL of a database, and how it is named where others may read it."""

from urllib.parse import parse_qs, urlsplit

_HINT = "it is postgresql://user:password@host:port/database, where / is %2F in a password, # %23, ? %3F and @ %40"


_SCHEMES = ("postgresql://", "postgres://")


def is_database_url(store: str) -> bool:
    """Whether this is meant to be the URL of a database, and not a path."""
    return store.lower().startswith(("postgresql:", "postgres:"))


def public_name(url: str) -> str:
    """Return host, port and database of a URL, without its secrets, or raise ValueError, also without them."""
    parts = urlsplit(url)
    # What stands behind a character that had to be written with % may be a part of the password.
    if "@" in parts.path + parts.query + parts.fragment or not url.lower().startswith(_SCHEMES):
        raise ValueError(_HINT)
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    hosts = parts.netloc.rpartition("@")[2] or ":".join(
        filter(None, (asked.get("host", "localhost"), asked.get("port")))
    )
    return hosts + (parts.path or f"/{asked.get('dbname', '')}")
