"""The format of events.json: the catalogue as people read and write it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ticketd.model import (
    NAME_BYTES_MAX,
    Capacity,
    Date,
    Event,
    Id,
    Name,
    milliseconds,
    opt_time_of,
    printable,
    utc,
)
from ticketd.wire.text import checked_name, checked_text
from ticketd.wire.window import checked_window

Available = Annotated[int, Meta(ge=0, title="a whole number from 0 to TotalTickets")]

_RENAMED = {
    "id": "ID",
    "name": "Name",
    "date": "Date",
    "capacity": "TotalTickets",
    "available": "AvailableTickets",
    "opens": "Opens",
    "closes": "Closes",
}


# What is before and after the events, as msgspec formats them.
_BEGIN = b'{\n  "events": ['
_END = b"\n  ]\n}"
# How many events are encoded by one call. It holds the interpreter's lock, so other threads wait, for less than 1 ms.
_EVENTS_PER_SLICE = 1_000


class FileEvent(Struct, forbid_unknown_fields=True, rename=_RENAMED, omit_defaults=True, gc=False):
    """One event of the file. Unknown fields are refused: writing the file back would lose them.

    Its name may be one that a new event must not have: see ``check_new_name``.
    """

    id: Id
    name: Name
    date: Date
    capacity: Capacity
    available: Available
    opens: Date | None = None
    closes: Date | None = None

    def __post_init__(self) -> None:
        """Check what types cannot express; msgspec turns a ValueError into a ValidationError."""
        checked_text("name", self.name, NAME_BYTES_MAX)
        self.date = utc(self.date)
        self.opens, self.closes = checked_window(self.opens, self.closes, ("Opens", "Closes"))
        if self.available > self.capacity:
            raise ValueError(f"AvailableTickets is {self.available}, more than TotalTickets, {self.capacity}")

    def event(self) -> Event:
        """Return it as a new event of the ledger; tickets that are not available count as sold elsewhere."""
        sold = self.capacity - self.available
        opens, closes = (None if time is None else milliseconds(time) for time in (self.opens, self.closes))
        return Event(self.id, self.name, self.date, self.capacity, self.available, 0, sold, 0, sold, opens, closes)


class _File(Struct, forbid_unknown_fields=True):
    events: list[FileEvent]


class _RawFile(Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


class EventsJsonError(Exception):
    """The file is no valid catalogue; the message says why.

    ``line`` is the number of the line, counted from 1, or None if no single line is at fault.
    """

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line


def file_events(events: Iterable[Event]) -> list[FileEvent]:
    """Return events in the format of the file."""
    return [
        FileEvent(
            event.id,
            event.name,
            event.date,
            event.capacity,
            event.available,
            opt_time_of(event.opens),
            opt_time_of(event.closes),
        )
        for event in events
    ]


def check_new_name(event: FileEvent) -> None:
    """Check the name of an event that is new. Raises EventsJsonError."""
    try:
        checked_name(event.name)
    except ValueError as error:
        raise EventsJsonError(None, f"the event {event.id}: {error}") from None


def encode_file(events: Sequence[FileEvent]) -> Iterator[bytes]:
    """Yield the parts of a file with these events, indented for people."""
    yield _BEGIN
    for start in range(0, len(events), _EVENTS_PER_SLICE):
        whole = msgspec.json.format(
            msgspec.json.encode(_File(list(events[start : start + _EVENTS_PER_SLICE]))), indent=2
        )
        yield (b"," if start else b"") + whole[len(_BEGIN) : -len(_END)]
    yield _END + b"\n"


def decode_file(data: bytes) -> list[FileEvent]:
    """Return the events of a file with this content. Raises EventsJsonError."""
    try:
        events = msgspec.json.decode(data, type=_File).events
    except msgspec.ValidationError as error:
        position, reason = _first_invalid(data) or (0, str(error))
    except msgspec.DecodeError as error:
        # "JSON is malformed: expected ',' (byte 123)"
        reason, _, byte = str(error).removesuffix(")").partition(" (byte ")
        position = int(byte) if byte else len(data)
    except (UnicodeDecodeError, RecursionError) as error:
        reason, position = str(error), 0
    else:
        seen: set[str] = set()
        for event in events:
            if event.id in seen:
                raise EventsJsonError(None, f"the ID {event.id} is used twice")
            seen.add(event.id)
        return events
    raise EventsJsonError(data.count(b"\n", 0, position) + 1, printable(reason))


def _first_invalid(data: bytes) -> tuple[int, str] | None:
    """Return the offset of the first invalid event and what is wrong with it, or None if no event is at fault."""
    try:
        raws = msgspec.json.decode(data, type=_RawFile).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    position = 0
    for raw in raws:
        position = data.index(bytes(raw), position)
        try:
            msgspec.json.decode(raw, type=FileEvent)
        except msgspec.ValidationError as error:
            return position, str(error).replace(" - at `$.", " in `")
        position += len(bytes(raw))
    return None
