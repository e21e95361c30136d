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

from ticketd.model import Capacity, Date, Event, Id, Name, checked_name, printable, utc

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
        self._content: list[FileEvent] | None = None
        self._fault: EventsFileError | None = None

    @property
    def missing(self) -> bool:
        """Whether there is no such file."""
        return not self.path.exists()

    def changed(self) -> bool:
        """Whether the file is another one than what was last read or written here."""
        return self._sign() != self._signature

    def read(self) -> list[Event]:
        """Return the events of the file, or raise EventsFileError."""
        self._signature = self._sign()
        self._fault = None
        try:
            self._content = self._parse(self.path.read_bytes())
        except FileNotFoundError:
            self._content = []
        except OSError as error:
            self._fault = EventsFileError(f"cannot read {self.path} ({error.strerror})")
        except EventsFileError as error:
            self._fault = error
        if self._fault:
            raise self._fault
        return [item.event() for item in self._content or []]

    def forget(self) -> None:
        """Take the file for changed, since what was read from it could not be used."""
        self._signature = None

    def write(self, events: Sequence[Event]) -> bool:
        """Make the file hold these events, unless it does. Raises OSError; the old file is whole then.

        Returns False, and does nothing, if somebody has changed the file since it was read or written here. What does
        not parse is never overwritten: raises the EventsFileError of the last ``read``.
        """
        if self._fault:
            raise self._fault
        content = [FileEvent(event.id, event.name, event.date, event.capacity, event.available) for event in events]
        if content == self._content:
            return True
        data = msgspec.json.format(msgspec.json.encode(_File(content)), indent=2) + b"\n"
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, self._mode())
                os.fsync(descriptor)
                signature = _sign(os.fstat(descriptor))
            if self.changed():
                # Somebody else was faster. What they wrote is to be read first.
                Path(temporary).unlink()
                return False
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._content = content
        self._signature = signature
        return True

    def _parse(self, data: bytes) -> list[FileEvent]:
        try:
            events = msgspec.json.decode(data, type=_File).events
        except msgspec.ValidationError as error:
            position, reason = _wrong(data) or (0, str(error))
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
        raise EventsFileError(f"{self.path}:{line}: {printable(reason)}")

    def _sign(self) -> tuple[int, ...] | None:
        try:
            return _sign(self.path.stat())
        except OSError:
            return None

    def _mode(self) -> int:
        try:
            return self.path.stat().st_mode & 0o777
        except OSError:
            # As open() would make it, which mkstemp does not.
            os.umask(mask := os.umask(0o077))
            return 0o666 & ~mask


def _sign(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _wrong(data: bytes) -> tuple[int, str] | None:
    """Return where the first event begins that is not valid, and what is wrong with it; None if it is no event."""
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
