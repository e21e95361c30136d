"""A disk that fails on demand, under the real SQLite. ``python -m tests.faulty`` is ticketd on such a disk."""

import os
import threading

import apsw

from ticketd import cli


class Faults:
    """What the disk shall do; nothing until told."""

    def __init__(self) -> None:
        self.full = False
        self.sync_fails = False
        # Syncs wait for this.
        self.sync_may_end = threading.Event()
        self.sync_may_end.set()


class FaultyDisk(apsw.VFS):
    """The default VFS from now on, on top of the operating system's."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        super().__init__("faulty", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self._faults, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, faults: Faults, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._faults = faults
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._faults.full:
            raise apsw.FullError("no space left on the faulty disk")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._faults.sync_may_end.wait()
        if self._faults.sync_fails:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)


def main() -> None:
    """Run ticketd; the disk fails to sync as soon as the file that FAULTY_SYNC names exists."""

    class WhenTheFileExists(Faults):
        @property
        def sync_fails(self) -> bool:
            return os.path.exists(os.environ["FAULTY_SYNC"])  # noqa: PTH110

        @sync_fails.setter
        def sync_fails(self, _: bool) -> None: ...

    disk = FaultyDisk(WhenTheFileExists())
    try:
        cli.main()
    finally:
        del disk


if __name__ == "__main__":
    main()
