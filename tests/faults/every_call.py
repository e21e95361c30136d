"""Fails every single call of a morning to the disk, one morning for each call, in every way that a call can fail.

After each, and again after a power cut that follows the next start: nothing acknowledged is missing, nothing is there
twice, the counts agree. What was refused as ``storage_full`` was not done, and a full disk ends no daemon.
"""

import itertools
import random
from collections import Counter
from pathlib import Path

import apsw

from tests.faults.disk import Call, Content, DeadError, Disk
from tests.faults.scenario import Morning, OpenLedger, open_ledger
from ticketd.ledger.base import OutcomeUnknownError

ROUNDS = 3
STRIDE = 30
CHANGING = ("write", "truncate", "sync", "delete", "open")

# What goes wrong, and how much of the call is done before.
FAULTS = {
    "I/O error, nothing done": ("error", 0.0),
    "I/O error, half done": ("error", 0.5),
    "I/O error, all done": ("error", 1.0),
    "no space, nothing done": ("full", 0.0),
    "no space, half done": ("full", 0.5),
    "no space from here on": ("full for good", 0.0),
    "dies before it": ("death", 0.0),
    "dies halfway": ("death", 0.5),
    "dies after it": ("death", 1.0),
}
_CODES = {
    "read": apsw.SQLITE_IOERR_READ,
    "write": apsw.SQLITE_IOERR_WRITE,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "lock": apsw.SQLITE_IOERR_LOCK,
    "size": apsw.SQLITE_IOERR_FSTAT,
    "delete": apsw.SQLITE_IOERR_DELETE,
    "look": apsw.SQLITE_IOERR_ACCESS,
    "open": apsw.SQLITE_CANTOPEN,
}


class Fault:
    """Lets the n-th call fail in one way. ``met`` tells whether there was such a call that can fail so."""

    def __init__(self, number: int, name: str) -> None:
        self.kind, self.part = FAULTS[name]
        self.number = number
        self.call: Call | None = None

    def __call__(self, call: Call, content: Content | None) -> None:
        full = self.kind.startswith("full") and call.operation in ("write", "truncate", "open")
        if self.call and self.kind == "full for good" and full:
            raise apsw.FullError("no space left on the faulty disk")
        if call.number != self.number:
            return
        self.call = call
        _do_part(call, content, self.part)
        if full:
            raise apsw.FullError("no space left on the faulty disk")
        if self.kind == "death":
            raise DeadError("the process ends here")
        if call.operation == "sync" and content and self.part < 1:
            content.fail_sync()
        raise apsw.exception_for(_CODES[call.operation])


def _do_part(call: Call, content: Content | None, part: float) -> None:
    if content is None or not part:
        return
    if call.operation == "sync" and part == 1:
        content.sync()
    elif isinstance(call.change, int) and part == 1:
        content.change(call.change)
    elif isinstance(call.change, tuple):
        offset, data = call.change
        content.change((offset, data[: int(len(data) * part)]))


def attack(number: int, name: str, chance: random.Random, opened: OpenLedger = open_ledger) -> Fault:
    """Live a morning whose n-th call fails, and see that all is well after it."""
    fault = Fault(number, name)
    disk = Disk(before=fault)
    morning = Morning(ROUNDS, opened)
    ended = morning.live(disk)
    if fault.call is None:
        assert ended is None
        return fault
    try:
        assert morning.full == 0 or fault.kind.startswith("full"), "storage_full without reason"
        if fault.kind.startswith("full") and fault.call.operation == "write":
            assert not isinstance(ended, OutcomeUnknownError), f"a full disk ended the daemon: {ended}"
        again = morning.check(disk.after_kill())
        morning.check(again.after_power_cut(chance))
    except BaseException as error:
        error.add_note(f"{name}, call {number}: {fault.call.operation} of {fault.call.file}")
        raise
    return fault


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Fail calls one after the other: every STRIDE-th of them, or more for a larger ``size``."""
    figures: Counter[str] = Counter()
    stride = max(1, STRIDE // size)
    for name in FAULTS:
        for number in itertools.count(1 + chance.randrange(stride), stride):
            fault = attack(number, name, chance)
            if fault.call is None:
                figures["calls of an untouched morning"] = number - 1
                break
            figures["faults"] += 1
            figures[f"faults of {fault.call.operation}"] += 1
    return dict(figures)
