"""Cuts the power at every moment of a morning, and opens what may be on the disk then.

What was written since the last sync may be there or not, sector by sector. Nothing acknowledged before the cut may be
missing after it.
"""

import random
from copy import copy
from pathlib import Path

from tests.faults.disk import Call, Content, Contents, Disk
from tests.faults.scenario import Morning, OpenLedger, open_ledger

ROUNDS = 3
DISKS_OF_A_CUT = 4


def cuts_of(morning: Morning, chance: random.Random, share: float) -> list[tuple[str, Morning, Contents]]:
    """Live a morning, and return what was known, and may be on the disk, before about this share of its changes."""
    cuts: list[tuple[str, Morning, Contents]] = []

    def cut(where: str) -> None:
        known = copy(morning)
        known.clock = copy(morning.clock)
        known.acknowledged = list(morning.acknowledged)
        cuts.extend((where, known, disk.after_power_cut(chance)) for _ in range(DISKS_OF_A_CUT))

    def before(call: Call, content: Content | None) -> None:
        if call.operation in ("write", "sync", "truncate", "delete") and chance.random() < share:
            cut(f"before call {call.number}, {call.operation} of {call.file}")

    disk = Disk(before=before)
    assert morning.live(disk) is None
    cut("in the end")
    return cuts


def attack(chance: random.Random, share: float, opened: OpenLedger = open_ledger) -> int:
    """Cut the power, open every disk, and return how many there were."""
    cuts = cuts_of(Morning(ROUNDS, opened), chance, share)
    for where, known, files in cuts:
        try:
            known.check(files)
        except BaseException as error:
            error.add_note(f"power cut {where}")
            raise
    return len(cuts)


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Cut the power of ``size`` mornings."""
    return {"disks opened": sum(attack(chance, 0.3 if size == 1 else 1.0) for _ in range(size))}
