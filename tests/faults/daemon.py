"""ticketd on a disk and by a wall clock that another process moves: ``python -m tests.faults.daemon``.

``Machine`` is the other process's side: a folder, named by the variable MACHINE, whose files say what shall be.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from tests.faults.disk import RealDisk, plugged
from ticketd import cli, daemon
from ticketd.ledger.embedded import opening
from ticketd.ledger.embedded.ledger import EmbeddedLedger, system_clock
from ticketd.model import time_of

POLL_SECONDS = 0.002


class Machine:
    """What a daemon runs on. Give it ``env``, and the module ``tests.faults.daemon``."""

    module = "tests.faults.daemon"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "machine"
        self._folder.mkdir(exist_ok=True)
        self.env = {"MACHINE": str(self._folder)}

    def move_clock(self, by: timedelta) -> None:
        """Set the wall clock forward or back, for good."""
        self._write("clock", str(_seconds(self._folder) + by.total_seconds()))

    def now(self) -> datetime:
        """Return the time of its wall clock."""
        return time_of(_now(self._folder))

    def fail_syncs(self) -> None:
        """Let every sync fail from now on."""
        self._write("fail", "")

    @contextmanager
    def is_full(self) -> Iterator[None]:
        """Let no file grow before the end of the block."""
        self._write("full", "")
        try:
            yield
        finally:
            (self._folder / "full").unlink()

    @contextmanager
    def syncs_stall(self) -> Iterator[None]:
        """Let no sync end before the end of the block."""
        self._write("stall", "")
        try:
            yield
        finally:
            (self._folder / "stall").unlink()

    def checks_beside(self) -> None:
        """Let a daemon that is started check its ledger as it checks a large one: beside the service."""
        self._write("beside", "")

    def stalled(self) -> bool:
        """Whether a sync waits."""
        return (self._folder / "stalled").exists()

    @contextmanager
    def file_syncs_stall(self) -> Iterator[None]:
        """Let no sync of events.json end before the end of the block."""
        self._write("file-stall", "")
        try:
            yield
        finally:
            (self._folder / "file-stall").unlink()

    def file_stalled(self) -> bool:
        """Whether a sync of events.json waits."""
        return (self._folder / "file-stalled").exists()

    def _write(self, name: str, text: str) -> None:
        # At once, so that nobody reads half of it.
        new = self._folder / "new"
        new.write_text(text)
        new.replace(self._folder / name)


def _seconds(folder: Path) -> float:
    clock = folder / "clock"
    return float(clock.read_text()) if clock.exists() else 0.0


def _now(folder: Path) -> int:
    return system_clock() + round(_seconds(folder) * 1_000)


class _Disk(RealDisk):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def has_no_room(self, *, grows: bool) -> bool:
        return grows and (self._folder / "full").exists()

    def before_sync(self) -> None:
        _wait_while(self._folder, "stall")
        if (self._folder / "fail").exists():
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)


def _wait_while(folder: Path, stall: str) -> None:
    while (folder / stall).exists():
        (folder / f"{stall}ed").touch()
        time.sleep(POLL_SECONDS)
    (folder / f"{stall}ed").unlink(missing_ok=True)


def main() -> None:
    """Run ticketd."""
    folder = Path(os.environ["MACHINE"])
    clock = partial(_now, folder)
    real_time = time.time
    time.time = lambda: real_time() + _seconds(folder)
    real_sync = os.fsync

    def sync(fd: Any) -> None:
        # SQLite syncs the ledger by other ways.
        _wait_while(folder, "file-stall")
        real_sync(fd)

    os.fsync = sync
    daemon.EmbeddedLedger = partial(EmbeddedLedger, clock=clock)  # type: ignore[assignment,attr-defined]
    if (folder / "beside").exists():
        opening.CHECKED_BEFORE_BYTES_MAX = 0
    with plugged(_Disk(folder)):
        cli.main()


if __name__ == "__main__":
    main()
