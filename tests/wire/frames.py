"""Lines of JSON as a client may send them, and what they are refused with."""

import json

import pytest

from ticketd.errors import TicketError
from ticketd.wire.codec import decode


def refused(frame: bytes) -> TicketError:
    with pytest.raises(TicketError) as raised:
        decode(frame)
    return raised.value


def frame(cmd: str, **fields: object) -> bytes:
    return json.dumps({"cmd": cmd, **fields}).encode()


def book(**fields: object) -> bytes:
    return frame("book", **{"event": "1", "quantity": 2, **fields})


def create(**fields: object) -> bytes:
    return frame("create", **{"name": "Jazz", "date": "2027-03-11T20:00:00Z", "capacity": 9, **fields})


def amend(**fields: object) -> bytes:
    return frame("amend", **{"event": "1", **fields})
