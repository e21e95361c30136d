"""Single values as text, without control characters, whatever a server sends."""

from typing import Any

import msgspec

from ticketd.model import printable


def cell(value: Any, separator: str = ",") -> str:
    """Return a value as text: nothing for None, the items of a list with the separator between, JSON for records."""
    plain = msgspec.to_builtins(value)
    match plain:
        case None:
            text = ""
        case [dict(), *_] | dict() | bool():
            text = msgspec.json.encode(plain).decode()
        case list() | tuple():
            return separator.join(cell(item) for item in plain)
        case _:
            text = str(plain)
    return printable(text)
