"""events.json: the catalogue as people read and write it. Reads it, and writes it anew without ever leaving half of it.

Knows nothing of the ledger: what is in the file is handed out as events, what shall be in it comes in as events.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ticketd.model import Capacity, Date, Event, Id, Name, checked_name, utc

Left = Annotated[int, Meta(ge=0, title="a whole number from 0 to TotalTickets")]

_RENAMED = {
    "id": "ID",
    "name": "Name",
    "date": "Date",
    "capacity": "TotalTickets",
    "available": "AvailableTickets",
}


class FileEvent(Struct, forbid_unknown_fields=True, rename=_RENAMED):
    """One event of the file. Fields that are not known are refused, since writing the file back would lose them."""

    id: Id
    name: Name
    date: Date
    capacity: Capacity
    available: Left

    def __post_init__(self) -> None:
        """Check what types cannot say; msgspec makes a ValidationError of a ValueError."""
        checked_name(self.name)
        self.date = utc(self.date)
        if self.available > self.capacity:
            raise ValueError(f"AvailableTickets is {self.available}, more than TotalTickets, {self.capacity}")

    def event(self) -> Event:
        """Return the event as one that has just come into a ledger; what is not available was sold elsewhere."""
        sold = self.capacity - self.available
        return Event(self.id, self.name, self.date, self.capacity, self.available, 0, sold, 0, sold)


class _File(Struct, forbid_unknown_fields=True):
    events: list[FileEvent]


class _RawFile(Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


class EventsFileError(Exception):
    """The file cannot be read, or does not hold a catalogue; the message says where and why."""


class EventsFile:
    """The catalogue file at ``path``. A missing file is an empty catalogue."""

    def __init__(self, path: Path) -> None:
        # Through a symbolic link the file itself is replaced, not the link.
        self.path = Path(os.path.realpath(path))
        self._signature: tuple[int, ...] | None = None
        # What is known to be in the file; None for what does not parse.
        self._content: list[FileEvent] | None = None

    def changed(self) -> bool:
        """Whether the file is another one than what was last read or written here."""
        return self._sign() != self._signature

    def read(self) -> list[Event]:
        """Return the events of the file, or raise EventsFileError."""
        self._signature = self._sign()
        self._content = None
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            self._content = []
            return []
        except OSError as error:
            raise EventsFileError(f"cannot read {self.path}: {error.strerror}") from error
        self._content = self._parse(data)
        return [item.event() for item in self._content]

    def write(self, events: Sequence[Event]) -> None:
        """Make the file hold these events, unless it does. What is there that does not parse is never overwritten.

        Raises OSError; the old file is whole then.
        """
        if self._content is None:
            return
        content = [FileEvent(event.id, event.name, event.date, event.capacity, event.available) for event in events]
        if content == self._content:
            return
        data = msgspec.json.format(msgspec.json.encode(_File(content)), indent=2) + b"\n"
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, self._mode())
                os.fsync(descriptor)
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._content = content
        self._signature = self._sign()

    def _parse(self, data: bytes) -> list[FileEvent]:
        try:
            events = msgspec.json.decode(data, type=_File).events
        except msgspec.ValidationError as error:
            reason, position = str(error), _position(data)
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
                    raise EventsFileError(f"{self.path}: the ID {event.id} stands there twice")
                seen.add(event.id)
            return events
        line = data.count(b"\n", 0, position) + 1
        raise EventsFileError(f"{self.path}:{line}: {reason}")

    def _sign(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _mode(self) -> int:
        try:
            return self.path.stat().st_mode & 0o777
        except OSError:
            return 0o644


def _position(data: bytes) -> int:
    """Return where the first event begins that is not valid, or 0 where it is not an event that is wrong."""
    position = 0
    try:
        for raw in msgspec.json.decode(data, type=_RawFile).events:
            position = data.index(bytes(raw), position)
            msgspec.json.decode(raw, type=FileEvent)
            position += len(bytes(raw))
    except msgspec.ValidationError:
        return position
    return 0
