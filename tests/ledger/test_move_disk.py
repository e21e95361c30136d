"""``ticketd move`` on disks of which any call fails: never do two ledgers sell, and the same command finishes it."""

import random
from pathlib import Path

import pytest

from tests.faults.disk import Contents, Disk, plugged
from tests.faults.every_call import FAULTS, Fault
from tests.ledger.sale import COMMIT_SECONDS_MAX, EVENTS, make_sale, quiet
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.ledger.move import move

SOURCE, TARGET = Path("/source/events.db"), Path("/target/events.db")
CALLS_PER_TEST = 30


async def sale_on_a_disk() -> Contents:
    disk = Disk()
    with plugged(disk):
        await make_sale(SOURCE)
    return disk.files


async def attack(files: Contents, fault: Fault | None, chance: random.Random) -> None:
    """Move on a disk of which a call fails; see what is on sale after a kill, and after a power cut; and finish it."""
    disk = Disk({name: content.copy() for name, content in files.items()}, fault)
    with plugged(disk):
        try:
            await move(str(SOURCE), str(TARGET), quiet)
        except CannotOpenError as error:
            assert fault is not None, error
            assert fault.call is not None, error
        finally:
            # The process is no more.
            disk.dead = True
    for left in (disk.after_kill(), disk.after_power_cut(chance)):
        with plugged(Disk({name: content.copy() for name, content in left.items()})):
            on_sale = [await events_on_disk(path) for path in (SOURCE, TARGET)]
            assert on_sale.count(EVENTS) <= 1, "both sell"
        again = Disk(left)
        with plugged(again):
            try:
                await move(str(SOURCE), str(TARGET), quiet)
            except CannotOpenError as error:
                assert "was moved to" in str(error), error
        with plugged(Disk(again.after_power_cut(chance))):
            assert await events_on_disk(SOURCE) is None
            assert await events_on_disk(TARGET) == EVENTS


async def events_on_disk(path: Path) -> list[str] | None:
    try:
        ledger = EmbeddedLedger(path, COMMIT_SECONDS_MAX)
    except CannotOpenError:
        return None
    events = [event.id for event in await ledger.events()]
    await ledger.close()
    return events


@pytest.mark.parametrize("name", FAULTS)
async def test_a_failing_disk_never_lets_both_sell(name: str, chance: random.Random) -> None:
    files = await sale_on_a_disk()
    untouched = Fault(0, name)
    await attack(files, untouched, chance)
    counting = Disk({file: content.copy() for file, content in files.items()})
    with plugged(counting):
        await move(str(SOURCE), str(TARGET), quiet)
    stride = max(1, counting.calls // CALLS_PER_TEST)
    for number in range(1 + chance.randrange(stride), counting.calls + 1, stride):
        fault = Fault(number, name)
        try:
            await attack(files, fault, chance)
        except BaseException as error:
            error.add_note(f"{name}, call {number}: {fault.call and (fault.call.operation, fault.call.file)}")
            raise
