"""Damages the ledger, its log and its seal, every block of them, in a place and a way that a disk or a person might.

Whatever was done, the daemon serves all that was acknowledged, or it does not start and says what is wrong.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw

from tests.faults.disk import SECTOR_BYTES, Call, Content, Disk, plugged
from tests.faults.scenario import LEDGER, Morning
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.check import check

# After an odd number of rounds the last one leaves its log behind; after an even one all is in the file.
ROUNDS = (17, 4)
PAGE_BYTES = 4_096
HEADER_BYTES = 100

DATABASE = str(LEDGER)
LOG = f"{LEDGER}-wal"
SEAL = f"{LEDGER}-seal"

Files = dict[str, bytes]
Damage = tuple[str, Files]


OVERFLOW = "overflow page"
MISPLACED = "page in the wrong place"
OLDER = "older page"


def overflow_pages(file: bytes) -> list[int]:
    """Return where the pages of a ledger begin that large bookings go on in."""
    disk = Disk({DATABASE: Content(bytearray(file), bytearray(file), named=True)})
    where = f"file:{DATABASE}?immutable=1"
    with plugged(disk), closing(apsw.Connection(where, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)) as base:
        pages = base.execute("SELECT pageno FROM dbstat WHERE name = 'bookings' AND pagetype = 'overflow'")
        return [(page - 1) * PAGE_BYTES for (page,) in pages]


class Ledger:
    """A ledger after its end, what was acknowledged of it, and how its files were at earlier times."""

    def __init__(self, chance: random.Random, rounds: int = ROUNDS[0]) -> None:
        self.morning = Morning(rounds)
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
        file = self.files[DATABASE]
        for start in overflow_pages(file):
            zeros = file[:start] + bytes(PAGE_BYTES) + file[start + PAGE_BYTES :]
            yield f"zeros in {OVERFLOW} at {start} of {DATABASE}", {**self.files, DATABASE: zeros}
            # Its first bytes say which page is next.
            for place in (start + chance.randrange(4), start + chance.randrange(4, PAGE_BYTES)):
                what, files = self._flipped(DATABASE, place, chance)
                yield f"{what}, in {OVERFLOW}", files
        yield from self._misplaced(chance)
        for number, older in enumerate(self.older):
            for name in older.keys() & {DATABASE, LOG}:
                yield f"{name} is an older one, {number}", {**self.files, name: older[name]}
            yield f"{DATABASE} and {LOG} are older ones, {number}", {**older, SEAL: self.files[SEAL]}

    def _misplaced(self, chance: random.Random) -> Iterator[Damage]:
        """Put every page in the place of another one, and in its own place all that were there before."""
        file = self.files[DATABASE]
        pages = [file[start : start + PAGE_BYTES] for start in range(0, len(file), PAGE_BYTES)]
        large = [start // PAGE_BYTES for start in overflow_pages(file)]
        others = {page: chance.randrange(len(pages)) for page in range(len(pages))}
        swaps = [*others.items(), *zip(large, chance.sample(large, len(large)), strict=True)]
        for one, other in swaps:
            swapped = pages.copy()
            swapped[one], swapped[other] = pages[other], pages[one]
            kind = f"{MISPLACED}, {OVERFLOW}" if one in large and other in large else MISPLACED
            yield f"{kind}: {one + 1} and {other + 1} swapped", {**self.files, DATABASE: b"".join(swapped)}
        for page, data in enumerate(pages):
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            for older in {files[DATABASE][place] for files in self.older if DATABASE in files} - {data, b""}:
                replaced = [*pages[:page], older, *pages[page + 1 :]]
                yield f"{OLDER}: {page + 1}", {**self.files, DATABASE: b"".join(replaced)}

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
            found = asyncio.run(check(str(folder / LEDGER.name), lambda line: None)).wrong
        except CannotOpenError:
            found = 1
        try:
            self.morning.check_ledger(folder / LEDGER.name)
        except CannotOpenError as error:
            assert str(folder / LEDGER.name) in str(error), error
            if "damaged" not in str(error):
                left = {name: folder / Path(name).name for name in files}
                assert {name: path.read_bytes() for name, path in left.items()} == files, "it was not left as it was"
            assert found, f"ticketd check finds nothing: {error}"
            return "refused"
        return "served"


def _bytes(disk: Disk) -> Files:
    return {name: bytes(content.data) for name, content in disk.after_kill().items()}


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Do every damage to ``size`` ledgers of each kind, or every fifteenth of them to one if ``size`` is 1."""
    figures: Counter[str] = Counter()
    for rounds in ROUNDS * size:
        ledger = Ledger(chance, rounds)
        damages = list(ledger.damages(chance))
        for name, files in chance.sample(damages, len(damages) if size > 1 else len(damages) // 15):
            try:
                figures[ledger.outcome(files, folder)] += 1
            except BaseException as error:
                error.add_note(name)
                raise
            figures["damages"] += 1
            for kind in (OVERFLOW, MISPLACED, OLDER):
                figures[f"damages: {kind}"] += kind in name
    return dict(figures)
