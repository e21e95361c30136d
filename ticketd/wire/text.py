"""Checks that text in requests and events.json is safe to show and not too long. Asks "did you mean". Pure."""

import unicodedata
from collections.abc import Iterable

from ticketd.model import NAME_BYTES_MAX, UNSAFE


def checked_text(field: str, text: str, bytes_max: int) -> str:
    """Return text unchanged if it is safe to show and not too long. Raises ValueError, which says what is wrong.

    ``field`` is what the message calls it.
    """
    if unsafe := UNSAFE.search(text):
        if "\ud800" <= unsafe[0] <= "\udfff":
            raise ValueError(f"{field} must be text in UTF-8")
        raise ValueError(f"{field} must not have the control or direction character U+{ord(unsafe[0]):04X} in it")
    size = len(text.encode())
    if not 1 <= size <= bytes_max:
        raise ValueError(f"{field} must be 1 to {bytes_max} bytes in UTF-8, and it has {size}")
    return text


def checked_name(name: str) -> str:
    """Return a new name unchanged. Raises ValueError, which says what is wrong with it.

    Only for new names: what is in NFC by the Unicode tables of one Python may not be by those of the next.
    """
    checked_text("name", name, NAME_BYTES_MAX)
    if name.strip() != name:
        raise ValueError("name must not be blank, nor begin or end with a blank")
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError("name must be in Unicode NFC, where an accent and its letter are one; normalize it")
    return name


def listed(names: Iterable[str]) -> str:
    """Return names as a list within a sentence."""
    return ", ".join(names)


def did_you_mean(typed: str, names: Iterable[str], otherwise: str) -> str:
    """Return "did you mean NAME?" for the nearest of these names, or ``otherwise`` if none is near."""
    # Imported here, because few need it.
    from difflib import get_close_matches

    near = get_close_matches(typed, list(names), 1)
    return f"did you mean {near[0]}?" if near else otherwise
