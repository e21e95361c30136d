"""``ticketd move``: what it refuses, and what daemons do while a move runs and after it."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.daemon import running
from tests.ledger.interrupted import killed_at
from tests.ledger.sale import (
    EVENTS,
    change,
    command,
    commit,
    events_on_sale,
    finish,
    make_sale,
    open_ledger,
    quiet,
    refused,
    ticketd,
)
from ticketd.ids import new_id
from ticketd.ledger.base import CannotOpenError, LedgerUnavailableError
from ticketd.ledger.embedded.offline import EmbeddedOffline
from ticketd.ledger.move import move
from ticketd.ledger.offline import Row
from ticketd.ledger.rows import Table
from ticketd.wire.requests import Book


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_target_that_has_anything_in_it_is_refused(sale: str, database: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    await make_sale(Path(other))
    assert f"the target {sale} has a sale in it; name a target that is empty" in await refused(other, sale)
    await move(other, database, quiet)
    assert "has a sale in it" in await refused(sale, database)
    assert f"the target is taken: the sale of {other} was moved to" in await refused(sale, other)
    assert await events_on_sale(sale) == await events_on_sale(database) == EVENTS


async def test_a_source_that_is_not_there_is_refused(database: str, tmp_path: Path) -> None:
    missing, target = str(tmp_path / "missing.db"), str(tmp_path / "target.db")
    assert await refused(missing, target) == f"ticketd: there is no ledger {missing}\n"
    assert "ticketd: there is no ledger in the database" in await refused(database, target)
    assert "cannot reach the database" in await refused("postgresql://127.0.0.1:1/none", target)
    assert files_in(tmp_path) == []


async def test_a_target_in_a_folder_that_is_not_there_is_refused(sale: str, tmp_path: Path) -> None:
    assert "there is no folder" in await refused(sale, str(tmp_path / "nowhere" / "target.db"))
    assert await events_on_sale(sale) == EVENTS


async def test_the_leftovers_of_a_target_are_refused(sale: str, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    await make_sale(target)
    target.unlink()
    assert "it lacks" in await refused(sale, str(target))
    target.unlink(missing_ok=True)
    (tmp_path / "target.db-wal").write_bytes(b"acknowledged")
    assert "its log" in await refused(sale, str(target))
    assert await events_on_sale(sale) == EVENTS


async def test_a_source_that_is_not_whole_is_refused(sale: str, tmp_path: Path) -> None:
    shutil.move(f"{sale}-seal", tmp_path / "seal")
    assert "is not whole: its seal is missing" in await refused(sale, str(tmp_path / "target.db"))
    shutil.move(tmp_path / "seal", f"{sale}-seal")
    change(sale, "UPDATE bookings SET quantity = 5 WHERE id = 'held'")
    reason = await refused(sale, str(tmp_path / "target.db"))
    assert "is not whole: event jazz: 4 are held by its count, and 5 by its bookings; see ticketd check" in reason
    assert not (tmp_path / "target.db").exists()


async def test_a_target_that_differs_from_its_source_is_not_kept(
    sale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = EmbeddedOffline.add

    async def add_otherwise(self: EmbeddedOffline, table: Table, rows: Sequence[Row]) -> None:
        # As many, and the law holds.
        await add(self, table, [tuple("Blue" if value == "Blues" else value for value in row) for row in rows])

    monkeypatch.setattr(EmbeddedOffline, "add", add_otherwise)
    target = str(tmp_path / "target.db")
    with pytest.raises(CannotOpenError, match="did not get what"):
        await move(sale, target, quiet)
    assert await events_on_sale(sale) == EVENTS
    assert isinstance(await events_on_sale(target), CannotOpenError)
    monkeypatch.undo()
    await finish(sale, target)


async def test_source_and_target_must_differ(sale: str, database: str, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(sale)
    for target in (sale, str(link), f"{tmp_path}/./sale/events.db"):
        assert "source and target are the same ledger" in await refused(sale, target)
    await move(sale, database, quiet)
    assert "are the same database" in await refused(database, f"{database}?application_name=another")
    assert await events_on_sale(database) == EVENTS


async def test_a_ledger_that_is_served_is_refused(sale: str, database: str, tmp_path: Path) -> None:
    target = str(tmp_path / "target.db")
    with running(tmp_path, "--ledger", sale):
        assert "is in use by another ticketd" in await refused(sale, target)
    empty = tmp_path / "empty"
    empty.mkdir()
    with running(empty, "--ledger", database):
        assert " from 127.0.0.1); stop it first" in await refused(database, target)
        assert " from 127.0.0.1); stop it first" in await refused(sale, database)
    await move(sale, database, quiet)
    assert await events_on_sale(database) == EVENTS


async def test_a_sale_that_was_moved_says_where_it_is(sale: str, database: str, tmp_path: Path) -> None:
    secret = database.replace("postgres@", "postgres:secret@")
    await move(sale, secret, quiet)
    for target in (secret, str(tmp_path / "third.db")):
        reason = await refused(sale, target)
        assert f"the sale of {sale} was moved to {database}; start ticketd with --ledger {database}." in reason
        assert "secret" not in reason
    assert not (tmp_path / "third.db").exists()
    assert await events_on_sale(database) == EVENTS


async def test_both_ends_of_a_move_cut_short_refuse_another(
    sale: str, database: str, another_database: str, tmp_path: Path
) -> None:
    other = str(tmp_path / "other.db")
    await make_sale(Path(other))
    assert await asyncio.to_thread(killed_at, "lifting the mark of the target", sale, database)
    assert f"finish it: {command(sale, database)}" in await refused(other, database)
    assert f"finish it: {command(sale, database)}" in await refused(database, another_database)
    await finish(sale, database)


async def test_bad_arguments_have_status_2_and_show_no_secrets(tmp_path: Path) -> None:
    for arguments in (
        ["move"],
        ["move", "a"],
        ["move", "a", ""],
        ["move", "a", "mysql://user:secret@host/db"],
        ["move", "postgresql://user:sec/ret@host/db", "b"],
        ["check"],
        ["check", "a", "b"],
        ["check", "--deep", "a"],
    ):
        done = await asyncio.to_thread(ticketd, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert f"ticketd {arguments[0]}: error: " in done.stderr or "ticketd: error: " in done.stderr
        assert "secret" not in done.stderr
        assert "sec/ret" not in done.stderr


async def test_a_daemon_that_comes_back_finds_the_sale_moved(sale: str, database: str, tmp_path: Path) -> None:
    await move(sale, database, quiet)
    ledger = await open_ledger(database)
    assert [event.id for event in await ledger.events()] == EVENTS
    # Its connections break, and it does not notice before it needs one.
    await ledger.close()
    tried: list[str] = []

    async def sell() -> None:
        try:
            await commit(ledger, Book("jazz", 1, new_id()))
        except LedgerUnavailableError as error:
            tried.append(str(error))

    trying: list[asyncio.Task[None]] = []

    def report(what: str, done: int, total: int) -> None:
        if what == "copying redemptions":
            trying.append(asyncio.get_running_loop().create_task(sell()))

    target = str(tmp_path / "target.db")
    await move(database, target, report)
    await asyncio.gather(*trying)
    await sell()
    assert trying
    assert len(tried) == len(trying) + 1, "it sold"
    assert f"was moved to {target}" in tried[-1]
    assert await events_on_sale(target) == EVENTS


async def test_daemons_cannot_start_while_a_move_runs(sale: str, database: str) -> None:
    refusals: list[asyncio.Task[list[str] | CannotOpenError]] = []

    def report(what: str, done: int, total: int) -> None:
        if what == "copying redemptions":
            refusals.extend(
                asyncio.get_running_loop().create_task(events_on_sale(ledger)) for ledger in (sale, database)
            )

    await move(sale, database, report)
    at_source, at_target = await asyncio.gather(*refusals)
    assert isinstance(at_source, CannotOpenError)
    assert at_target == EVENTS or isinstance(at_target, CannotOpenError)
