"""The format of events.json: the catalogue as people read and write it. Pure."""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, get_args, get_type_hints

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
from ticketd.wire.schema import must_be, shown
from ticketd.wire.text import checked_name, checked_text, listed
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


# What the value of each field must be, by its name in the file.
_HINTS = get_type_hints(FileEvent, include_extras=True)
_MUST_BE = {
    written: must_be(_HINTS[name] if hasattr(_HINTS[name], "__metadata__") else get_args(_HINTS[name])[0])
    for name, written in _RENAMED.items()
}
_STRINGS = ("ID", "Name")
_NO_CATALOGUE = 'a catalogue is an object with one field, "events", which is a list of events'


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
    # Some editors put it before UTF-8.
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        events = msgspec.json.decode(data, type=_File).events
    except msgspec.ValidationError:
        position, reason = _first_invalid(data) or (0, _NO_CATALOGUE)
    except msgspec.DecodeError as error:
        # "JSON is malformed: expected ',' (byte 123)"
        what, _, byte = str(error).removesuffix(")").partition(" (byte ")
        reason = f"this is not JSON: {what.removeprefix('JSON is malformed: ')}" if byte else "the file ends too early"
        position = int(byte) if byte else len(data)
    except UnicodeDecodeError as error:
        reason, position = "this is not UTF-8", error.start
    except RecursionError:
        reason, position = "it is nested too deeply", 0
    else:
        places: dict[str, int] = {}
        for place, event in enumerate(events):
            if (first := places.setdefault(event.id, place)) != place:
                positions = [position for position, _ in _raw_events(data)]
                other = _line(data, positions[first])
                reason = f"the ID {event.id} is used twice; the other one is in line {other}"
                raise EventsJsonError(_line(data, positions[place]), reason)
        return events
    raise EventsJsonError(_line(data, position), printable(reason))


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _first_invalid(data: bytes) -> tuple[int, str] | None:
    """Return the offset of the first invalid event and what is wrong with it, or None if no event is at fault."""
    try:
        for position, raw in _raw_events(data):
            try:
                msgspec.json.decode(raw, type=FileEvent)
            except msgspec.ValidationError as error:
                return position, _explain(str(error), raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return None


def _raw_events(data: bytes) -> Iterator[tuple[int, msgspec.Raw]]:
    """Yield each event of a file and its offset. Raises what msgspec raises if it is no catalogue."""
    position = 0
    for raw in msgspec.json.decode(data, type=_RawFile).events:
        position = data.index(bytes(raw), position)
        yield position, raw
        position += len(bytes(raw))


def _explain(wrong: str, raw: msgspec.Raw) -> str:
    """Reword msgspec's message about an event so that it helps the person who wrote it."""
    if match := re.fullmatch(r"Object missing required field `(\w+)`", wrong):
        return f"an event needs {match[1]}: {_MUST_BE[match[1]]}"
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", wrong, re.DOTALL):
        return f"an event has no field {shown(match[1])}; it has {listed(_MUST_BE)}"
    if match := re.search(r" - at `\$\.(\w+)", wrong):
        try:
            value = msgspec.json.decode(raw)[match[1]]
        except msgspec.DecodeError:
            return f"{match[1]} must be {_MUST_BE[match[1]]}"  # A number with too many digits.
        is_bare = match[1] in _STRINGS and not isinstance(value, str)
        return f"{match[1]} must be {'a string, in quotes' if is_bare else _MUST_BE[match[1]]}, not {shown(value)}"
    # The message comes from ``__post_init__``, and names the field already; or the event is no object.
    text = wrong.partition(" - at `$")[0]
    return "an event must be an object" if text.startswith("Expected `object`") else text
