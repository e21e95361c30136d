"""What is promised about the disk: a bounded part of the attacks on it, and that they can fail."""

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from tests.faketime import Clock
from tests.faults import corruption, every_call, power_cut
from tests.faults.scenario import DATE, LEDGER, Morning, OpenStore, open_store
from ticketd import rules
from ticketd.books import Books, LedgerRequest
from ticketd.ids import new_id
from ticketd.protocol import Book, Cancel, Create, Reply, Show
from ticketd.stores import sqlite_file
from ticketd.stores.base import CannotOpenError, Committed, More, OutcomeUnknownError, nothing_more
from ticketd.stores.sqlite import SqliteStore

T = TypeVar("T")


def test_whichever_call_to_the_disk_fails_nothing_acknowledged_is_lost_and_nothing_is_done_twice(
    chance: random.Random, tmp_path: Path
) -> None:
    assert every_call.run(chance, 1, tmp_path)["faults"] > 200


def test_whenever_the_power_is_cut_nothing_acknowledged_is_lost(chance: random.Random, tmp_path: Path) -> None:
    assert power_cut.run(chance, 1, tmp_path)["disks opened"] > 200


def without_syncs(clock: Clock) -> SqliteStore:
    store = open_store(clock)
    store._connection.pragma("synchronous", "NORMAL")
    return store


class Hasty(SqliteStore):
    """Replies, and commits when the next batch comes."""

    _late: tuple[Any, ...] | None = None

    async def transact(self, requests: list[LedgerRequest], more: More = nothing_more) -> Committed:
        await self._catch_up()
        return await super().transact(requests, more)

    async def tidy(self) -> None:
        await self._catch_up()
        await super().tidy()

    async def _catch_up(self) -> None:
        late, self._late = self._late, None
        if late:
            await self._disk.do(partial(super()._commit, late))

    def _commit(self, batch: tuple[Any, ...]) -> None:
        self._late = batch


def hasty(clock: Clock) -> SqliteStore:
    return Hasty(LEDGER, new_id, 30, clock)


@pytest.mark.parametrize("opened", [without_syncs, hasty])
def test_a_store_that_acknowledges_what_is_not_durable_is_caught(chance: random.Random, opened: OpenStore) -> None:
    with pytest.raises((AssertionError, CannotOpenError), match=r"forgotten|lacks \d+ of \d+ commits"):
        power_cut.attack(chance, 1, opened)


def test_rules_without_the_capacity_check_are_caught(
    chance: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = rules._RULES[Book]

    def greedy(books: Books, request: LedgerRequest) -> Reply:
        assert isinstance(request, Book)
        event = books.events[request.event]
        event.available += max(0, request.quantity - event.available)
        return book(books, request)

    monkeypatch.setitem(rules._RULES, Book, greedy)
    with pytest.raises(Exception, match="CHECK constraint"):
        power_cut.run(chance, 1, tmp_path)


def test_a_damaged_ledger_is_served_whole_or_not_at_all(chance: random.Random, tmp_path: Path) -> None:
    figures = corruption.run(chance, 1, tmp_path)
    assert figures["refused"] > 50
    assert figures["served"] > 10


def nothing(*_: object) -> None: ...


@pytest.mark.parametrize("guard", ["_loss", "_find_damage"])
def test_a_daemon_that_does_not_look_for_damage_is_caught(
    chance: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    monkeypatch.setattr(sqlite_file, guard, nothing)
    with pytest.raises(Exception, match=r".") as caught:
        corruption.run(chance, 2, tmp_path)
    assert "events.db" in caught.value.__notes__[-1]


def killed_ledger(folder: Path) -> tuple[Morning, Path]:
    """Write the files of a ledger that was killed, and return what was acknowledged, and its path."""
    ledger = corruption.Ledger(random.Random(1))
    for name, data in ledger.files.items():
        (folder / Path(name).name).write_bytes(data)
    return ledger.morning, folder / LEDGER.name


def test_who_knows_what_is_missing_can_go_on_without_it(tmp_path: Path) -> None:
    morning, path = killed_ledger(tmp_path)
    log = path.with_name("events.db-wal")
    log.write_bytes(log.read_bytes()[: -3 * corruption.PAGE_BYTES])
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(CannotOpenError, match=r"lacks \d+ of \d+ commits that were acknowledged.*--accept-losses"):
        open_store(morning.clock, path)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}, "a ledger that is refused is left alone"
    store = SqliteStore(path, new_id, 30, morning.clock, accept_losses=True)
    asyncio.run(store.close())
    asyncio.run(open_store(morning.clock, path).close())


@pytest.mark.parametrize("damage", [None, b"", b"no seal", b"\0" * 1_024])
def test_without_its_seal_a_ledger_is_not_trusted(tmp_path: Path, damage: bytes | None) -> None:
    morning, path = killed_ledger(tmp_path)
    seal = path.with_name("events.db-seal")
    seal.unlink() if damage is None else seal.write_bytes(damage)
    with pytest.raises(CannotOpenError, match=r"its seal is (missing|damaged).*--accept-losses"):
        open_store(morning.clock, path)
    store = SqliteStore(path, new_id, 30, morning.clock, accept_losses=True)
    asyncio.run(store.close())
    morning.check_ledger(path)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def ask(path: Path, *requests: LedgerRequest, killed: bool = False) -> list[Reply]:
    """Open the ledger, ask, and end; if killed, the files stay as they were before the end."""
    store = SqliteStore(path, new_id, 30, Clock())
    replies = asyncio.run(store.transact(list(requests))).replies
    left = contents(path.resolve().parent)
    asyncio.run(store.close())
    if killed:
        for name, data in left.items():
            (path.resolve().parent / name).write_bytes(data)
    return replies


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
        SqliteStore(path, new_id, 30, Clock(), accept_losses=True)
    assert contents(tmp_path) == before
    # As the message says: the file alone, and its losses accepted.
    path.with_name("events.db-wal").unlink()
    store = SqliteStore(path, new_id, 30, Clock(), accept_losses=True)
    assert [event.sold for event in asyncio.run(store.events())] == [500]
    asyncio.run(store.close())


@pytest.mark.parametrize("gone", ["moved", "emptied"])
def test_a_log_whose_file_is_gone_is_kept_until_it_is_put_back(tmp_path: Path, gone: str) -> None:
    path, _ = ledgers_of_two_ages(tmp_path)
    whole = contents(tmp_path)
    path.unlink() if gone == "moved" else path.write_bytes(b"")
    before = contents(tmp_path)
    for accept_losses in (False, True):
        with pytest.raises(CannotOpenError, match=r"missing or empty, and its log .* is there"):
            SqliteStore(path, new_id, 30, Clock(), accept_losses=accept_losses)
    assert contents(tmp_path) == before
    path.write_bytes(whole["events.db"])
    assert getattr(ask(path, Show("jazz"))[0], "sold", None) == 401


def test_a_ledger_behind_a_link_is_the_same_ledger(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "events.db"
    link.symlink_to(tmp_path / "data" / "real.db")
    ask(link, Create("Jazz", DATE, 5, "jazz"), killed=True)
    assert getattr(ask(tmp_path / "data" / "real.db", Show("jazz"))[0], "available", None) == 5
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["events.db"]


def test_a_ledger_with_a_damaged_page_does_not_lose_its_seal(tmp_path: Path) -> None:
    path, _ = ledgers_of_two_ages(tmp_path)
    path.with_name("events.db-wal").unlink()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + b"?" + whole[-99:])
    with pytest.raises(CannotOpenError, match="damaged"):
        SqliteStore(path, new_id, 30, Clock(), accept_losses=True)
    path.write_bytes(whole)
    with pytest.raises(CannotOpenError, match="lacks 1 of"):
        SqliteStore(path, new_id, 30, Clock())


def test_a_sale_that_is_done_is_told_though_its_seal_finds_no_room(tmp_path: Path) -> None:
    def sell() -> Reply:
        store = SqliteStore(tmp_path / "events.db", new_id, 30, Clock())
        store._seal.write = refuse  # type: ignore[method-assign]
        reply = asyncio.run(store.transact([Create("Jazz", DATE, 5, "jazz")])).replies[0]
        asyncio.run(store.close())
        return reply

    def refuse(commits: int) -> None:
        raise apsw.FullError("no space left")

    assert getattr(sell(), "available", None) == 5


def test_a_ledger_that_is_taken_away_while_it_is_in_use_sells_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = SqliteStore(path, new_id, 30, Clock())
    asyncio.run(store.transact([Create("Jazz", DATE, 5, "jazz")]))
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(OutcomeUnknownError, match="not there any more"):
        asyncio.run(store.transact([Book("jazz", 1, "b")]))


@pytest.mark.parametrize(("place", "told"), [(20, "first page"), (4_096 + 100, "wrong checksum")])
def test_what_is_damaged_is_told_and_is_not_called_something_else(tmp_path: Path, place: int, told: str) -> None:
    path = tmp_path / "events.db"
    ask(path, Create("Jazz", DATE, 5, "jazz"))
    data = bytearray(path.read_bytes())
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(CannotOpenError, match=rf"is damaged \(.*{told}"):
        SqliteStore(path, new_id, 30, Clock())
