"""Mints ids, for the daemon and for ticketctl. Nothing else in the daemon is random."""

import re
import secrets
import time
from collections.abc import Iterator

import uuid_utils
from msgspec import UNSET

from ticketd.model import TICKET_CHARS
from ticketd.wire.requests import Request

_SUFFIX_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # without 0, 1, i, l and o, which look alike
_SUFFIX_CHARS = 6
_SLUG_CHARS_MAX = 32
_TICKETS_AT_ONCE = 512


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562): hard to guess, and growing with time, so that new rows go to the end of a table.

    There is no UUIDv7 before 1970. While the clock is set so far back, ids are random only.
    """
    return str(uuid_utils.uuid7() if time.time() >= 0 else uuid_utils.uuid4())


def _new_tickets() -> Iterator[str]:
    # Drawn for many at once: each look at the system's randomness costs as much as a small booking.
    while True:
        digits = secrets.token_bytes(_TICKETS_AT_ONCE * TICKET_CHARS // 2).hex()
        for start in range(0, len(digits), TICKET_CHARS):
            yield digits[start : start + TICKET_CHARS]


# Returns the last part of the id of a ticket: TICKET_CHARS random hexadecimal digits. For one thread only.
new_ticket = _new_tickets().__next__


def new_event_id(name: str) -> str:
    """Return an id for an event that people can read and type, such as ``jazz-night-x7k2mq``; at most 39 characters.

    Letters of other alphabets are transliterated.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", _ascii(name).lower())[:_SLUG_CHARS_MAX].strip("-")
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_CHARS))
    return f"{slug or 'event'}-{suffix}"


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    # Imported here, because few names need it.
    from anyascii import anyascii

    return anyascii(name)


def mint(request: Request) -> None:
    """Mint the id of what the request creates, unless it has one or creates nothing."""
    field = request.minted
    if field and getattr(request, field) is UNSET:
        name = getattr(request, "name", None)
        setattr(request, field, new_id() if name is None else new_event_id(name))
