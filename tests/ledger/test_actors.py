"""Who did what: both ledgers keep the name of whoever sent a request, in a batch, when it is sent or decided again."""

from collections.abc import AsyncIterator

import pytest

from tests.faketime import Clock
from tests.ledger.facts import on_the_wire
from tests.ledgers import STORAGES, PostgresStorage, new_storage, read, transact
from ticketd.ledger.base import Ledger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Show,
)

CLOCK = Clock()
JAZZ = Create("Jazz", CLOCK.time, 10, "jazz")


@pytest.fixture(params=STORAGES)
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    ledger = await new_storage(request, CLOCK).open()
    yield ledger
    await ledger.close()


async def by(ledger: Ledger, id_: str) -> tuple[str | None, list[tuple[str, str | None]]]:
    """Return who made a booking or let in a ticket, and who did what to it."""
    [shown] = map(on_the_wire, await read(ledger, [Show(id_)]))
    past = shown.get("changes") or shown.get("history") or []
    return shown.get("by"), [(each["what"], each.get("by")) for each in past]


async def test_each_request_of_a_batch_has_the_name_of_who_sent_it(ledger: Ledger) -> None:
    sent: list[tuple[LedgerRequest, str | None]] = [
        (JAZZ, "boss"), (Book("jazz", 2, "a"), "box-1"), (Hold("jazz", 1, 60, "b"), "box-2"),
        (Book("jazz", 1, "c"), None), (Extend("b", 70), "box-1"), (Confirm("b"), None),
        (Hold("jazz", 1, 60, "d"), None), (Release("d"), "box-2"),
    ]  # fmt: skip
    replies = (await transact(ledger, *map(list, zip(*sent, strict=True)))).replies
    first, second = on_the_wire(replies[1])["tickets"]
    assert await by(ledger, "a") == ("box-1", [])
    assert await by(ledger, "b") == ("box-2", [("extend", "box-1"), ("confirm", None)])
    assert await by(ledger, "c") == (None, [])
    assert await by(ledger, "d") == (None, [("release", "box-2")])
    later: list[LedgerRequest] = [Redeem("a", scan="s"), Annul(first), Cancel("a", [first]), Redeem("c"), Cancel("b")]
    await transact(ledger, later, ["door", "boss", "chief", None, None])
    assert await by(ledger, first) == (None, [("redeem", "door"), ("annul", "boss")])
    # What happened once at the door is no history.
    assert await by(ledger, second) == ("door", [])
    assert await by(ledger, "a") == ("box-1", [("cancel", "chief")])
    await transact(ledger, [Annul(second), Reissue(second)], ["door", "boss"])
    assert await by(ledger, "a") == ("box-1", [("cancel", "chief"), ("reissue", "boss")])
    assert await by(ledger, second) == (None, [("redeem", "door"), ("annul", "door")])


async def test_a_page_tells_who_did_what(ledger: Ledger) -> None:
    await transact(ledger, [JAZZ, Book("jazz", 1, "a"), Hold("jazz", 1, 60, "b")], ["boss", "box-1", None])
    await transact(ledger, [Confirm("b"), Cancel("a")], ["box-2", "box-3"])
    [page] = map(on_the_wire, await read(ledger, [Bookings()]))
    told = [(each.get("by"), [change["by"] for change in each["changes"]]) for each in page["bookings"]]
    assert told == [("box-1", ["box-3"]), (None, ["box-2"])]


async def test_whoever_sends_a_request_again_does_not_become_its_author(ledger: Ledger) -> None:
    first: list[LedgerRequest] = [JAZZ, Book("jazz", 1, "a"), Hold("jazz", 1, 60, "b"), Confirm("b")]
    await transact(ledger, first, ["box-1"] * 4)
    replies = (await transact(ledger, [*first, Redeem("a", scan="s")], ["thief"] * 5)).replies
    assert all(on_the_wire(reply)["replayed"] for reply in replies[:4])
    await transact(ledger, [Redeem("a", scan="s")], ["door"])
    assert await by(ledger, "a") == ("box-1", [])
    assert await by(ledger, "b") == ("box-1", [("confirm", "box-1")])


async def test_nobody_is_named_for_a_hold_that_runs_out(ledger: Ledger) -> None:
    await transact(ledger, [JAZZ, Hold("jazz", 2, 60, "a"), Hold("jazz", 2, 60, "b")], ["boss", "box-1", "box-1"])
    CLOCK.move(60)
    await transact(ledger, [Book("jazz", 1, "c"), Confirm("b", late=True)], ["box-2", "box-3"])
    assert await by(ledger, "a") == ("box-1", [("expire", None)])
    assert await by(ledger, "b") == ("box-1", [("expire", None), ("confirm", "box-3")])


async def test_what_is_decided_anew_keeps_the_names_of_who_sent_it(database: str) -> None:
    here, there = [await PostgresStorage(database).open() for _ in range(2)]
    await transact(here, [JAZZ])
    await there.events()
    await transact(here, [Amend("jazz", per_buyer=5)])
    # There, it is decided without the limit first, which the database refuses.
    requests = [Book("jazz", 4, "a", "anna"), Book("jazz", 4, "b", "anna"), Hold("jazz", 1, 60, "c", "bob")]
    replies = (await transact(there, requests, ["box-1", "box-2", None])).replies
    assert [on_the_wire(reply).get("code") for reply in replies] == [None, "buyer_limit", None]
    await transact(here, [Confirm("c"), Redeem("a", scan="s")], ["box-3", "door"])
    [page] = map(on_the_wire, await read(there, [Bookings()]))
    assert [each.get("by") for each in page["bookings"]] == ["box-1", None]
    assert [change["by"] for change in page["bookings"][1]["changes"]] == ["box-3"]
    [ticket] = map(on_the_wire, await read(there, [Show(page["bookings"][0]["tickets"][0])]))
    assert ticket["by"] == "door"
    for ledger in (here, there):
        await ledger.close()
