"""Mints ids. The only randomness there is; the server and ticketctl share it."""

import re
import secrets
import unicodedata

import uuid_utils

_SUFFIX_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # nothing that is read or heard as something else
_SUFFIX_CHARS = 6
_SLUG_CHARS_MAX = 32


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562): not to be guessed, and growing with time, so that a ledger grows at its end."""
    return str(uuid_utils.uuid7())


def new_event_id(name: str) -> str:
    """Return an id for an event that people can read and type, such as ``jazz-night-x7k2mq``."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name)[:_SLUG_CHARS_MAX].strip("-")
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_CHARS))
    return f"{slug or 'event'}-{suffix}"
