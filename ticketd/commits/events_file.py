"""Owns events.json, the catalogue in a file that people read and edit. A crash never leaves it half-written.

Knows nothing of the ledger: it returns the events in the file, and writes the events that it gets. Its methods
wait for the disk, so they are called in a thread, one at a time.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ticketd.model import Event
from ticketd.wire.events_json import EventsJsonError, FileEvent, decode_file, encode_file, file_events

# The 100,000 events of the largest catalogue by default take less, even with the longest names and ids.
FILE_BYTES_MAX = 64 * 1024 * 1024


class EventsFileError(Exception):
    """The file cannot be read, or is not a catalogue; the message says where and why."""


class EventsFile:
    """The catalogue file at ``path``. A missing file is an empty catalogue. None of ``others`` is ever read."""

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        # If the path is a symbolic link, the file that it points to is replaced, not the link.
        self.path = Path(os.path.realpath(path))
        self._others = others
        self._signature: tuple[int, ...] | None = None
        self._content: list[FileEvent] | None = None
        self._fault: str | None = None

    @property
    def missing(self) -> bool:
        """Whether the file does not exist."""
        return not self.path.exists()

    def changed(self) -> bool:
        """Whether another program has changed the file since it was last read or written here."""
        return self._current_signature() != self._signature

    def read(self) -> list[FileEvent]:
        """Return the events of the file. Raises EventsFileError."""
        self._fault = None
        try:
            self._content = decode_file(self._load())
        except FileNotFoundError:
            self._signature, self._content = None, []
        except OSError as error:
            # It may become readable without a change.
            self.forget()
            raise self.refuse(f"cannot read {self.path} ({error.strerror})") from None
        except EventsJsonError as error:
            where = self.path if error.line is None else f"{self.path}:{error.line}"
            raise self.refuse(f"{where}: {error}") from None
        return self._content

    def refuse(self, reason: str) -> EventsFileError:
        """Keep ``write`` from overwriting the file as it is, and return the error that says why."""
        # Not the error itself: its traceback would keep the content of the file alive.
        self._fault = reason
        return EventsFileError(reason)

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
            raise EventsFileError(self._fault)
        content = file_events(events)
        if content == self._content:
            return True
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                _write_parts(file, encode_file(content))
                self._keep_owner_and_mode(descriptor)
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

    def _load(self) -> bytes:
        """Return what is in the file. Raises OSError, or EventsFileError if it must not be read."""
        self._refuse_others()
        # Without O_NONBLOCK, opening a FIFO would wait for somebody who writes to it.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            self._signature = _signature_of(status)
            if not stat.S_ISREG(status.st_mode):
                raise self.refuse(f"cannot read {self.path} (it is not a regular file)")
            if status.st_size > FILE_BYTES_MAX:
                raise self.refuse(f"cannot read {self.path} (it is larger than {FILE_BYTES_MAX >> 20} MiB)")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(status.st_size)
        finally:
            os.close(descriptor)

    def _refuse_others(self) -> None:
        """Raise EventsFileError if the file is one of the others. Opening and closing it would drop SQLite's locks."""
        for other in self._others:
            same = other == self.path
            # One of them may not exist.
            with suppress(OSError):
                same = same or other.samefile(self.path)
            if same:
                raise self.refuse(f"{self.path} is a file of the ledger ({other.name}), not a catalogue")

    def _current_signature(self) -> tuple[int, ...] | None:
        try:
            return _signature_of(self.path.stat())
        except OSError:
            return None

    def _keep_owner_and_mode(self, descriptor: int) -> None:
        """Give a new file the owner and the mode of the one that it replaces. If there is none, it has mode 0600."""
        try:
            old = self.path.stat()
        except OSError:
            return
        for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
            # Only root may change the owner. Others may change the group, and only to one that they are in.
            with suppress(PermissionError):
                os.fchown(descriptor, owner, group)
        os.fchmod(descriptor, old.st_mode & 0o777)


def _write_parts(file: BinaryIO, parts: Iterable[bytes]) -> None:
    file.writelines(parts)
    file.flush()
    if file.tell() > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, f"it would be larger than {FILE_BYTES_MAX >> 20} MiB, and could not be read")


def _signature_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size
