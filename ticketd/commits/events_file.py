"""Owns events.json, the catalogue in a file that people read and edit. A crash never leaves it half-written.

Knows nothing of the ledger: it returns the events in the file, and writes the events that it gets.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ticketd.model import Event
from ticketd.wire.events_json import EventsJsonError, FileEvent, decode_file, encode_file, file_events


class EventsFileError(Exception):
    """The file cannot be read, or is not a catalogue; the message says where and why."""


class EventsFile:
    """The catalogue file at ``path``. A missing file is an empty catalogue. It must not be one of ``others``."""

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        # If the path is a symbolic link, the file that it points to is replaced, not the link.
        self.path = Path(os.path.realpath(path))
        self._others = others
        self._signature: tuple[int, ...] | None = None
        self._content: list[FileEvent] | None = None
        self._fault: EventsFileError | None = None

    @property
    def missing(self) -> bool:
        """Whether the file does not exist."""
        return not self.path.exists()

    def changed(self) -> bool:
        """Whether another program has changed the file since it was last read or written here."""
        return self._current_signature() != self._signature

    def read(self) -> list[Event]:
        """Return the events of the file. Raises EventsFileError."""
        self._signature = self._current_signature()
        self._fault = None
        try:
            self._refuse_others()
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
        """Let ``changed`` be True, so that the file is read again."""
        self._signature = None

    def write(self, events: Sequence[Event]) -> bool:
        """Replace the file by one with these events, unless it has exactly these.

        Returns False, and leaves the file as it is, if another program has changed it since it was last read or written
        here. Raises OSError if it cannot be written; the old file stays intact. Raises the EventsFileError of the last
        ``read`` if that failed: a file that does not parse is never overwritten.
        """
        if self._fault:
            raise self._fault
        content = file_events(events)
        if content == self._content:
            return True
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode_file(content))
                file.flush()
                os.fchmod(descriptor, self._mode())
                os.fsync(descriptor)
                signature = _signature_of(os.fstat(descriptor))
            if self.changed():
                Path(temporary).unlink()
                return False
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._content = content
        self._signature = signature
        return True

    def _refuse_others(self) -> None:
        """Raise EventsFileError if the file is one of the others. Opening and closing it would drop SQLite's locks."""
        inode = _inode_of(self.path)
        for other in self._others:
            if other == self.path or (inode and inode == _inode_of(other)):
                raise EventsFileError(f"{self.path} is {other}, which belongs to the ledger; name another --events")

    def _parse(self, data: bytes) -> list[FileEvent]:
        try:
            return decode_file(data)
        except EventsJsonError as error:
            where = self.path if error.line is None else f"{self.path}:{error.line}"
            raise EventsFileError(f"{where}: {error}") from None

    def _current_signature(self) -> tuple[int, ...] | None:
        try:
            return _signature_of(self.path.stat())
        except OSError:
            return None

    def _mode(self) -> int:
        try:
            return self.path.stat().st_mode & 0o777
        except OSError:
            # As open() would create it: mkstemp uses 0o600.
            os.umask(mask := os.umask(0o077))
            return 0o666 & ~mask


def _inode_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _signature_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size
