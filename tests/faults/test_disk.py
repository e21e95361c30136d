"""What is promised about the disk: a bounded part of the attacks on it, and that they can fail."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from tests.callbacks import commit
from tests.faketime import Clock
from tests.faults import corruption, every_call, power_cut
from tests.faults.disk import Call, Content, Disk, plugged
from tests.faults.scenario import DATE, LEDGER, Morning, OpenLedger, open_ledger
from ticketd.ledger.base import Answers, CannotOpenError, Done, OutcomeUnknownError
from ticketd.ledger.embedded import opening
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.model import Event, ticket_parts
from ticketd.rules import door, new_bookings
from ticketd.rules.commands import TABLE
from ticketd.rules.working_set import LedgerRequest, ReadSet, WorkingSet
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Book, Cancel, Create, Redeem


def test_disk_faults_lose_and_double_no_acknowledged_change(chance: random.Random, tmp_path: Path) -> None:
    # Over 5 s: for each fault, a morning of sales, and two that check what is left of it.
    assert every_call.run(chance, 1, tmp_path)["faults"] > 200


def test_a_power_cut_loses_no_acknowledged_change(chance: random.Random, tmp_path: Path) -> None:
    assert power_cut.run(chance, 1, tmp_path)["disks opened"] > 200


def without_syncs(clock: Clock) -> EmbeddedLedger:
    ledger = open_ledger(clock)
    ledger._connection.pragma("synchronous", "NORMAL")
    return ledger


class Hasty(EmbeddedLedger):
    """Replies, and commits when the next batch comes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(LEDGER, 30, clock)
        self._late: tuple[tuple[Any, ...], bool] | None = None
        self._commit = self._database._commit
        vars(self._database)["_commit"] = self._put_off

    def transact(
        self, requests: list[LedgerRequest], done: Done, actors: Sequence[str | None] | None = None
    ) -> Answers | None:
        self._catch_up()
        return super().transact(requests, done, actors)

    async def close(self) -> None:
        self._catch_up()
        await super().close()

    def _catch_up(self) -> None:
        late, self._late = self._late, None
        if late:
            self._commit(*late)

    def _put_off(self, batch: tuple[Any, ...], checkpoint: bool) -> None:
        self._late = batch, checkpoint


@pytest.mark.parametrize("early", [without_syncs, Hasty])
def test_the_power_cut_attack_catches_an_early_acknowledgement(chance: random.Random, early: OpenLedger) -> None:
    with pytest.raises((AssertionError, CannotOpenError), match=r"forgotten|lacks \d+ of \d+ commits"):
        power_cut.attack(chance, 1, early)


class Eager(EmbeddedLedger):
    """Shows what is not committed."""

    def _load(self, reads: ReadSet, *, due: bool) -> WorkingSet:
        working_set = super()._load(reads, due=due)
        working_set.events = {event_id: self._events[event_id] for event_id in working_set.events}
        return working_set


def eager(clock: Clock) -> EmbeddedLedger:
    return Eager(LEDGER, 30, clock)


def test_the_attack_on_every_call_catches_a_read_of_the_uncommitted(chance: random.Random) -> None:
    with pytest.raises(AssertionError, match="what is not committed is shown"):
        for number in range(1, 1_000):
            every_call.attack(number, "no space, nothing done", chance, eager)


def lets_in_again(working_set: WorkingSet, request: LedgerRequest) -> Reply:
    """Do not ask whether a ticket was used: the time of its use becomes a later one."""
    assert isinstance(request, Redeem)
    booking, ticket = ticket_parts(request.ticket)
    working_set.redemptions.get(booking, {}).pop(ticket, None)
    return door.redeem(working_set, request)


def lets_the_cancelled_in(working_set: WorkingSet, request: LedgerRequest) -> Reply:
    """Do not ask whether a ticket was cancelled."""
    assert isinstance(request, Redeem)
    booking = working_set.bookings.get(ticket_parts(request.ticket)[0])
    if booking:
        working_set.bookings[booking.id] = msgspec.structs.replace(booking, changes=None)
    return door.redeem(working_set, request)


@pytest.mark.parametrize(
    ("mutant", "wrong"),
    [
        (lets_in_again, "UNIQUE constraint|forgotten"),
        (lets_the_cancelled_in, "with a cancelled ticket somebody was let in"),
    ],
)
def test_the_power_cut_attack_catches_a_door_that_is_too_open(
    chance: random.Random,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutant: Callable[[WorkingSet, LedgerRequest], Reply],
    wrong: str,
) -> None:
    monkeypatch.setitem(TABLE, Redeem, TABLE[Redeem]._replace(decide=mutant))
    with pytest.raises(Exception, match=wrong):
        power_cut.run(chance, 1, tmp_path)


def test_the_power_cut_attack_catches_a_missing_capacity_check(
    chance: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(working_set: WorkingSet, request: LedgerRequest) -> Reply:
        assert isinstance(request, Book)
        event = working_set.events[request.event]
        event.available += max(0, request.quantity - event.available)
        return new_bookings.book(working_set, request)

    monkeypatch.setitem(TABLE, Book, TABLE[Book]._replace(decide=greedy))
    with pytest.raises(Exception, match="CHECK constraint"):
        power_cut.run(chance, 1, tmp_path)


def test_a_damaged_ledger_is_served_whole_or_not_at_all(chance: random.Random, tmp_path: Path) -> None:
    figures = corruption.run(chance, 1, tmp_path)
    assert figures["refused"] > 50
    assert figures["served"] > 10
    kinds = (corruption.OVERFLOW, corruption.MISPLACED, corruption.OLDER)
    assert min(figures[f"damages: {kind}"] for kind in kinds) > 2


def nothing(*_: object, **__: object) -> None: ...


def opened(path: Path, clock: Clock | None = None, *, accept_losses: bool = False) -> list[Event]:
    """Open a ledger, close it, and return its events."""

    async def events() -> list[Event]:
        ledger = EmbeddedLedger(path, 30, clock or Clock(), accept_losses=accept_losses)
        found = await ledger.events()
        await ledger.close()
        return found

    return asyncio.run(events())


@pytest.mark.parametrize("guard", ["find_loss", "_find_damage"])
def test_the_corruption_attack_catches_a_missing_damage_check(
    chance: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    monkeypatch.setattr(opening, guard, nothing)
    with pytest.raises(Exception, match=r".") as caught:
        corruption.run(chance, 2, tmp_path)
    # It says which damage was served.
    assert caught.value.__notes__


def killed_ledger(folder: Path) -> tuple[Morning, Path]:
    """Write the files of a ledger that was killed, and return what was acknowledged, and its path."""
    ledger = corruption.Ledger(random.Random(1))
    for name, data in ledger.files.items():
        (folder / Path(name).name).write_bytes(data)
    return ledger.morning, folder / LEDGER.name


def test_a_ledger_lacking_commits_opens_only_with_accept_losses(tmp_path: Path) -> None:
    morning, path = killed_ledger(tmp_path)
    log = path.with_name("events.db-wal")
    log.write_bytes(log.read_bytes()[: -3 * corruption.PAGE_BYTES])
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(CannotOpenError, match=r"lacks \d+ of \d+ commits that were acknowledged.*--accept-losses"):
        opened(path, morning.clock)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}, "a ledger that is refused is left alone"
    opened(path, morning.clock, accept_losses=True)
    opened(path, morning.clock)


@pytest.mark.parametrize("damage", [None, b"", b"no seal", b"\0" * 1_024])
def test_a_ledger_without_its_seal_opens_only_with_accept_losses(tmp_path: Path, damage: bytes | None) -> None:
    morning, path = killed_ledger(tmp_path)
    seal = path.with_name("events.db-seal")
    seal.unlink() if damage is None else seal.write_bytes(damage)
    with pytest.raises(CannotOpenError, match=r"its seal is (missing|damaged).*--accept-losses"):
        opened(path, morning.clock)
    opened(path, morning.clock, accept_losses=True)
    morning.check_ledger(path)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def ask(path: Path, *requests: LedgerRequest, killed: bool = False) -> list[Reply]:
    """Open the ledger, ask, and end; if killed, the files stay as they were before the end."""

    async def replies() -> list[Reply]:
        ledger = EmbeddedLedger(path, 30, Clock())
        result = await commit(ledger, *requests)
        left.update(contents(folder))
        await ledger.close()
        return [*result.replies]

    folder = path.resolve().parent
    left: dict[str, bytes] = {}
    answered = asyncio.run(replies())
    if killed:
        for name, data in left.items():
            (folder / name).write_bytes(data)
    return answered


def ledgers_of_two_ages(folder: Path) -> tuple[Path, bytes]:
    """Make a ledger that was killed, and return its path and its file as it was two sessions before."""
    path = folder / "events.db"
    ask(path, Create("Jazz", DATE, 1_000, "jazz"), *(Book("jazz", 1, f"b{number}") for number in range(500)))
    older = path.read_bytes()
    ask(path, *(Cancel(f"b{number}") for number in range(100)))
    ask(path, Book("jazz", 1, "last"), killed=True)
    return path, older


@pytest.mark.parametrize("with_its_seal", [True, False])
def test_an_older_file_is_not_mixed_with_a_newer_log(tmp_path: Path, with_its_seal: bool) -> None:
    path, older = ledgers_of_two_ages(tmp_path)
    path.write_bytes(older)
    if with_its_seal:
        path.with_name("events.db-seal").write_bytes(b"")
    before = contents(tmp_path)
    with pytest.raises(CannotOpenError, match="do not belong together"):
        opened(path, accept_losses=True)
    assert contents(tmp_path) == before
    # As the message says: the file alone, and its losses accepted.
    path.with_name("events.db-wal").unlink()
    assert [event.sold for event in opened(path, accept_losses=True)] == [500]


@pytest.mark.parametrize("gone", ["moved", "emptied"])
def test_a_log_is_kept_until_its_missing_file_is_put_back(tmp_path: Path, gone: str) -> None:
    path, _ = ledgers_of_two_ages(tmp_path)
    whole = contents(tmp_path)
    path.unlink() if gone == "moved" else path.write_bytes(b"")
    before = contents(tmp_path)
    for accept_losses in (False, True):
        with pytest.raises(CannotOpenError, match=r"missing or empty, but its log .* exists"):
            opened(path, accept_losses=accept_losses)
    assert contents(tmp_path) == before
    path.write_bytes(whole["events.db"])
    assert [event.sold for event in opened(path)] == [401]


def test_a_ledger_opened_through_a_symlink_is_the_same_ledger(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "events.db"
    link.symlink_to(tmp_path / "data" / "real.db")
    ask(link, Create("Jazz", DATE, 5, "jazz"), killed=True)
    assert [event.available for event in opened(tmp_path / "data" / "real.db")] == [5]
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["events.db"]


def test_refusing_a_damaged_ledger_keeps_its_seal(tmp_path: Path) -> None:
    path, _ = ledgers_of_two_ages(tmp_path)
    path.with_name("events.db-wal").unlink()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + b"?" + whole[-99:])
    with pytest.raises(CannotOpenError, match="damaged"):
        opened(path, accept_losses=True)
    path.write_bytes(whole)
    with pytest.raises(CannotOpenError, match="lacks 1 of"):
        opened(path)


async def test_a_commit_is_acknowledged_even_if_its_seal_has_no_room(tmp_path: Path) -> None:
    def full(call: Call, content: Content | None) -> None:
        if sells and call.operation == "write" and call.file.endswith("-seal"):
            refused.append(call)
            raise apsw.FullError("no space left")

    sells: list[bool] = []
    refused: list[Call] = []
    disk = Disk(before=full)
    with plugged(disk):
        ledger = EmbeddedLedger(LEDGER, 30, Clock())
        sells.append(True)
        [reply] = (await commit(ledger, Create("Jazz", DATE, 5, "jazz"))).replies
        assert getattr(reply, "available", None) == 5
        await commit(ledger, Book("jazz", 1, "b"))
        assert len(refused) == 2
        # A seal that counts too few is no loss.
        with plugged(Disk(disk.after_kill())):
            again = EmbeddedLedger(LEDGER, 30, Clock())
            assert [event.sold for event in await again.events()] == [1]
            await again.close()
        await ledger.close()


async def test_a_ledger_moved_away_while_in_use_sells_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    ledger = EmbeddedLedger(path, 30, Clock())
    await commit(ledger, Create("Jazz", DATE, 5, "jazz"))
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(OutcomeUnknownError, match="missing or replaced"):
        await commit(ledger, Book("jazz", 1, "b"))


@pytest.mark.parametrize(("place", "says"), [(20, "first page"), (4_096 + 100, "wrong checksum")])
def test_a_damaged_ledger_is_reported_as_damaged(tmp_path: Path, place: int, says: str) -> None:
    path = tmp_path / "events.db"
    ask(path, Create("Jazz", DATE, 5, "jazz"))
    data = bytearray(path.read_bytes())
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(CannotOpenError, match=rf"is damaged \(.*{says}"):
        opened(path)
