"""Damages the ledger, its log and its seal, every block of them, in a place and a way that a disk or a person might.

Whatever was done, the daemon serves all that was acknowledged, or it does not start and says what is wrong.
"""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.faults.disk import SECTOR_BYTES, Call, Content, Disk
from tests.faults.scenario import LEDGER, Morning
from ticketd.stores.base import CannotOpenError

# An odd number, so that the last round leaves its log behind.
ROUNDS = 17
PAGE_BYTES = 4_096
HEADER_BYTES = 100

DATABASE = str(LEDGER)
LOG = f"{LEDGER}-wal"
SEAL = f"{LEDGER}-seal"

Files = dict[str, bytes]
Damage = tuple[str, Files]


class Ledger:
    """A ledger after kill -9, what was acknowledged of it, and how its files were at earlier times."""

    def __init__(self, chance: random.Random) -> None:
        self.morning = Morning(ROUNDS)
        self.older: list[Files] = []

        def before(call: Call, content: Content | None) -> None:
            if call.operation == "sync" and chance.random() < 0.1:
                self.older.append(_bytes(disk))

        disk = Disk(before=before)
        assert self.morning.live(disk) is None
        self.files = _bytes(disk)
        # It is not the older ones that are to be served, nor a ledger that is just being made, with its journal.
        self.older = [
            files
            for files in self.older
            if files.keys() <= {DATABASE, LOG, SEAL} and files.get(SEAL) != self.files[SEAL]
        ]

    def damages(self, chance: random.Random) -> Iterator[Damage]:
        """Return every damage, with its name."""
        for name, data in self.files.items():
            blocks = range(0, len(data), SECTOR_BYTES)
            for start in blocks:
                yield self._flipped(name, chance.randrange(start, min(start + SECTOR_BYTES, len(data))), chance)
            for place in range(HEADER_BYTES):
                yield self._flipped(name, place, chance)
            for size in {0, *(chance.randrange(len(data)) for _ in range(20)), *blocks[::8]}:
                yield f"{name} cut to {size} bytes", {**self.files, name: data[:size]}
            for start in blocks[:: PAGE_BYTES // SECTOR_BYTES]:
                zeros = bytes(min(PAGE_BYTES, len(data) - start))
                damaged = data[:start] + zeros + data[start + PAGE_BYTES :]
                yield f"zeros in {name} from {start}", {**self.files, name: damaged}
            yield f"{name} is gone", {other: data for other, data in self.files.items() if other != name}
        for number, older in enumerate(self.older):
            for name in older.keys() & {DATABASE, LOG}:
                yield f"{name} is an older one, {number}", {**self.files, name: older[name]}
            yield f"{DATABASE} and {LOG} are older ones, {number}", {**older, SEAL: self.files[SEAL]}

    def _flipped(self, name: str, place: int, chance: random.Random) -> Damage:
        data = bytearray(self.files[name])
        bit = 1 << chance.randrange(8)
        data[place] ^= bit
        return f"bit {bit:#04x} of byte {place} of {name} flipped", {**self.files, name: bytes(data)}

    def outcome(self, files: Files, folder: Path) -> str:
        """Open the files in a folder; return whether they were "refused", or "served" whole."""
        for name in (DATABASE, LOG, SEAL):
            path = folder / Path(name).name
            path.write_bytes(files[name]) if name in files else path.unlink(missing_ok=True)
        try:
            self.morning.check_ledger(folder / LEDGER.name)
        except CannotOpenError as error:
            assert str(folder / LEDGER.name) in str(error), error
            if "damaged" not in str(error):
                found = {name: folder / Path(name).name for name in files}
                assert {name: path.read_bytes() for name, path in found.items()} == files, "it was not left as it was"
            return "refused"
        return "served"


def _bytes(disk: Disk) -> Files:
    return {name: bytes(content.data) for name, content in disk.after_kill().items()}


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Do every damage to ``size`` ledgers, or every tenth of them to one if ``size`` is 1."""
    figures: Counter[str] = Counter()
    for _ in range(size):
        ledger = Ledger(chance)
        damages = list(ledger.damages(chance))
        for name, files in chance.sample(damages, len(damages) if size > 1 else len(damages) // 10):
            try:
                figures[ledger.outcome(files, folder)] += 1
            except BaseException as error:
                error.add_note(name)
                raise
            figures["damages"] += 1
    return dict(figures)
