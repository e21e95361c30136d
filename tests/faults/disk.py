"""Disks under the real SQLite: the machine's own, that fails on demand, and one in memory that can lose its power.

``VFS`` is SQLite's way to its files in all tests. It stands below the checksums, which are loaded once for the whole
process, so it is there before them, and hands everything to the disk that is plugged in.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import apsw

SECTOR_BYTES = 512


class Storage(Protocol):
    """What can be plugged in."""

    def open(self, name: str, flags: list[int]) -> Any:
        """Return an open file, which has the methods of apsw.VFSFile."""

    def delete(self, name: str, sync_folder: bool) -> None:
        """Remove a file."""

    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""


class VFS(apsw.VFS):
    """Hands everything to the disk that is plugged in."""

    def __init__(self) -> None:
        super().__init__("plugged", "unix", makedefault=True)
        self.disk: Storage = RealDisk()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        return self.disk.open(name.filename() if isinstance(name, apsw.URIFilename) else str(name), flags)

    def xDelete(self, name: str, syncdir: bool) -> None:
        self.disk.delete(name, syncdir)

    def xAccess(self, name: str, flags: int) -> bool:
        return self.disk.exists(name)


class RealDisk:
    """The machine's own disk; it fails when asked to."""

    def __init__(self) -> None:
        self.full = False
        self.sync_fails = False
        # Syncs wait for this.
        self.sync_may_end = threading.Event()
        self.sync_may_end.set()

    def open(self, name: str, flags: list[int]) -> Any:
        return _RealFile(self, name, flags)

    def delete(self, name: str, sync_folder: bool) -> None:
        os.unlink(name)  # noqa: PTH108

    def exists(self, name: str) -> bool:
        return os.path.exists(name)  # noqa: PTH110

    def has_no_room(self, *, grows: bool) -> bool:
        """Tell whether a write fails that makes a file grow, or one that does not."""
        return self.full

    def before_sync(self) -> None:
        """Stall, or fail."""
        self.sync_may_end.wait()
        if self.sync_fails:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)


class _RealFile(apsw.VFSFile):
    def __init__(self, disk: RealDisk, name: str, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk.has_no_room(grows=offset + len(data) > self.xFileSize()):
            raise apsw.FullError("no space left on the faulty disk")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.before_sync()
        super().xSync(flags)


_VFS = VFS()


@contextmanager
def plugged(disk: Storage) -> Iterator[None]:
    """Plug in a disk until the end of the block. What was opened before stays on the disk where it is."""
    before = _VFS.disk
    _VFS.disk = disk
    try:
        yield
    finally:
        _VFS.disk = before


# A disk in memory.

# What is written, or the size that the file is cut to.
Change = tuple[int, bytes] | int


@dataclass
class Content:
    """A file: what is durable of it, how it is read, and what was done since its last sync, in order.

    ``named`` tells whether its name is durable: a file that was never synced may be gone after a power cut.
    """

    durable: bytearray = field(default_factory=bytearray)
    data: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    named: bool = False

    def change(self, change: Change) -> None:
        _apply(self.data, change)
        self.changes.append(change)

    def sync(self) -> None:
        for change in self.changes:
            _apply(self.durable, change)
        self.changes.clear()
        self.named = True

    def fail_sync(self) -> None:
        """Do what Linux does: what could not be written counts as written from now on."""
        self.changes.clear()

    def copy(self) -> "Content":
        return Content(self.durable.copy(), self.data.copy(), self.changes.copy(), self.named)

    def after_power_cut(self, chance: random.Random) -> "Content":
        """Return what may be on the disk: of every sector, and of the size, any of the states since the last sync."""
        states = [self.durable]
        for change in self.changes:
            states.append(states[-1].copy())
            _apply(states[-1], change)
        size = len(chance.choice(states))
        found = bytearray()
        for start in range(0, size, SECTOR_BYTES):
            # A file is cut at once; it is not that some of its sectors are there and others are not.
            sector = chance.choice([state for state in states if len(state) > start])[start : start + SECTOR_BYTES]
            found += sector.ljust(min(SECTOR_BYTES, size - start), b"\0")[: size - start]
        return Content(found, found.copy(), named=True)


# The files of a disk by name.
Contents = dict[str, Content]


def _apply(data: bytearray, change: Change) -> None:
    if isinstance(change, int):
        del data[change:]
        data.extend(bytes(change - len(data)))
        return
    offset, written = change
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


@dataclass(frozen=True)
class Call:
    """One call of SQLite to the disk, counted from 1. ``change`` is what a write or a truncation would do."""

    number: int
    operation: str
    file: str
    change: Change | None = None


# Asked before each call: it may raise instead, and may change the content itself.
Before = Callable[[Call, Content | None], None]


class DeadError(apsw.IOError):
    """The process has died already."""


class Disk:
    """A disk in memory. ``before`` is asked before every call; ``dead`` fails all of them from then on."""

    def __init__(self, files: Contents | None = None, before: Before | None = None) -> None:
        self.files = files or {}
        self.before = before
        self.calls = 0
        self.dead = False
        # Removed, and not for good before something in the folder is synced.
        self.removed: Contents = {}

    def call(self, operation: str, name: str, change: Change | None = None) -> None:
        if self.dead:
            raise DeadError(f"{operation} of {name} after the end")
        self.calls += 1
        if self.before:
            self.before(Call(self.calls, operation, name, change), self.files.get(name))

    def open(self, name: str, flags: list[int]) -> Any:
        self.call("open", name)
        if name not in self.files:
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.CantOpenError(f"there is no {name}")
            self.files[name] = Content()
        flags[1] = flags[0]
        return _File(self, name)

    def delete(self, name: str, sync_folder: bool) -> None:
        self.call("delete", name)
        content = self.files.pop(name, None)
        if sync_folder:
            self.removed.clear()
        elif content and content.named:
            self.removed[name] = content

    def exists(self, name: str) -> bool:
        self.call("look", name)
        return name in self.files

    def after_kill(self) -> Contents:
        """Return the files as the next process finds them: all that was written, synced or not."""
        return {name: content.copy() for name, content in self.files.items()}

    def after_power_cut(self, chance: random.Random) -> Contents:
        """Return the files as the machine may find them when the power is back."""
        there = self.files | {name: content for name, content in self.removed.items() if chance.random() < 0.5}
        return {
            name: content.after_power_cut(chance)
            for name, content in there.items()
            if content.named or chance.random() < 0.5
        }


class _File:
    """An open file of a disk in memory. Letting go of it never fails, as in a process that ends."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._content = disk.files[name]

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.call("read", self._name)
        return bytes(self._content.data[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        change = (offset, bytes(data))
        self._disk.call("write", self._name, change)
        self._content.change(change)

    def xTruncate(self, size: int) -> None:
        self._disk.call("truncate", self._name, size)
        self._content.change(size)

    def xSync(self, flags: int) -> None:
        self._disk.call("sync", self._name)
        if not self._content.named:
            # SQLite syncs the folder of a file that it has made, and with it the names that are gone.
            self._disk.removed.clear()
        self._content.sync()

    def xFileSize(self) -> int:
        self._disk.call("size", self._name)
        return len(self._content.data)

    def xLock(self, level: int) -> None:
        self._disk.call("lock", self._name)

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, operation: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        # As SQLite takes every disk of Unix: a write does no harm to the bytes beside it.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None: ...
