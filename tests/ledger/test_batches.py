"""What several requests of one batch owe to each other: both ledgers decide them one after the other, and end."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import pytest

from tests.faketime import Clock
from tests.ledger.facts import on_the_wire
from tests.ledgers import STORAGES, new_storage, read, result_of, transact
from ticketd.ledger.base import Ledger
from ticketd.model import Event
from ticketd.rules.working_set import Adopt, LedgerRequest
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Show,
)

CLOCK = Clock()
DATE = CLOCK.time
JAZZ = Create("Jazz", DATE, 10, "jazz")


@pytest.fixture(params=STORAGES)
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    ledger = await new_storage(request, CLOCK).open()
    yield ledger
    await ledger.close()


async def told(ledger: Ledger, *requests: LedgerRequest) -> list[object]:
    """Return of each reply what matters most: the code of an error, the state of a booking or ticket, or its kind."""
    replies = map(on_the_wire, (await transact(ledger, requests)).replies)
    return [reply.get("code") or reply.get("state") or reply["reply"] for reply in replies]


# Windows


@pytest.mark.parametrize(
    "off_sale",
    [Amend("jazz", paused=True), Amend("jazz", closes=DATE), Amend("jazz", opens=DATE.replace(year=2030))],
    ids=["paused", "closes", "opens"],
)
async def test_what_is_sold_before_a_new_event_is_paused_is_sold(ledger: Ledger, off_sale: Amend) -> None:
    assert await told(ledger, JAZZ, Book("jazz", 1, "a"), off_sale, Book("jazz", 1, "b")) == [
        "event", "confirmed", "event", "not_on_sale",
    ]  # fmt: skip
    assert [(event.sold, event.version) for event in await ledger.events()] == [(1, 2)]


async def test_a_pause_in_a_batch_stops_what_comes_after_it(ledger: Ledger) -> None:
    assert await told(ledger, JAZZ) == ["event"]
    pause, resume = Amend("jazz", paused=True), Amend("jazz", paused=False)
    requests = [Book("jazz", 1, "a"), pause, Book("jazz", 1, "b"), resume, Book("jazz", 1, "c"), pause]
    assert await told(ledger, *requests) == ["confirmed", "event", "not_on_sale", "event", "confirmed", "event"]


async def test_a_sale_may_end_with_the_last_moment_there_is(ledger: Ledger) -> None:
    last = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
    [created] = (await transact(ledger, [Create("Jazz", last, 1, "jazz", closes=last)])).replies
    assert on_the_wire(created)["closes"] == last
    assert await told(ledger, Amend("jazz", opens=last.replace(microsecond=998_001), closes=None)) == ["event"]


# Limits per buyer


async def test_who_has_too_many_when_a_limit_comes_keeps_them(ledger: Ledger) -> None:
    # The limit is for what is sold and held from now on.
    await told(ledger, JAZZ, Hold("jazz", 3, 60, "held", "anna"), Book("jazz", 3, "sold", "anna"))
    assert await told(ledger, Amend("jazz", per_buyer=1)) == ["event"]
    assert await told(ledger, Extend("held", 70)) == ["held"]
    assert await told(ledger, Confirm("held")) == ["confirmed"]
    [reply] = (await transact(ledger, [Cancel("sold")])).replies
    assert on_the_wire(reply)["state"] == "cancelled"
    [reply] = (await transact(ledger, [Book("jazz", 1, "more", "anna")])).replies
    assert (on_the_wire(reply)["code"], on_the_wire(reply)["left"]) == ("buyer_limit", 0)


async def test_tickets_above_a_new_limit_can_be_cancelled_and_reissued(ledger: Ledger) -> None:
    _, booked = (await transact(ledger, [JAZZ, Book("jazz", 3, "sold", "anna")])).replies
    first, second, _ = on_the_wire(booked)["tickets"]
    assert await told(ledger, Amend("jazz", per_buyer=1)) == ["event"]
    assert await told(ledger, Reissue(first)) == ["valid"]
    assert await told(ledger, Cancel("sold", [second])) == ["confirmed"]


async def test_a_limit_counts_from_its_place_in_a_batch(ledger: Ledger) -> None:
    requests = [Book("jazz", 3, "a", "anna"), Amend("jazz", per_buyer=2), Book("jazz", 1, "b", "anna")]
    assert await told(ledger, JAZZ, *requests) == ["event", "confirmed", "event", "buyer_limit"]
    none, limit = Amend("jazz", per_buyer=None), Amend("jazz", per_buyer=2)
    requests = [Book("jazz", 1, "c", "anna"), none, Book("jazz", 1, "d", "anna"), limit]
    assert await told(ledger, *requests) == ["buyer_limit", "event", "confirmed", "event"]


async def test_a_limit_that_ends_in_a_batch_still_counts_before(ledger: Ledger) -> None:
    await told(ledger, Create("Jazz", DATE, 10, "jazz", per_buyer=2), Book("jazz", 2, "a", "anna"))
    requests = [Book("jazz", 1, "b", "anna"), Amend("jazz", per_buyer=None)]
    assert await told(ledger, *requests) == ["buyer_limit", "event"]


async def test_a_release_later_in_a_batch_makes_no_room_before(ledger: Ledger) -> None:
    await told(ledger, Create("Jazz", DATE, 10, "jazz", per_buyer=3), Hold("jazz", 2, 60, "held", "anna"))
    requests = [Book("jazz", 2, "a", "anna"), Release("held"), Book("jazz", 1, "b", "anna")]
    assert await told(ledger, *requests) == ["buyer_limit", "released", "confirmed"]


async def test_a_release_earlier_in_a_batch_makes_room(ledger: Ledger) -> None:
    await told(ledger, Create("Jazz", DATE, 10, "jazz", per_buyer=3), Hold("jazz", 2, 60, "held", "anna"))
    assert await told(ledger, Release("held"), Book("jazz", 3, "a", "anna")) == ["released", "confirmed"]
    [reply] = (await transact(ledger, [Book("jazz", 1, "b", "anna")])).replies
    assert (on_the_wire(reply)["code"], on_the_wire(reply)["left"]) == ("buyer_limit", 0)


async def test_a_limit_counts_what_is_held_and_not_what_is_over(ledger: Ledger) -> None:
    await told(ledger, Create("Jazz", DATE, 10, "jazz", per_buyer=4), Hold("jazz", 3, 60, "held", "anna"))
    assert await told(ledger, Book("jazz", 2, "a", "anna")) == ["buyer_limit"]
    assert await told(ledger, Book("jazz", 2, "a", "ben"), Book("jazz", 1, "b", "anna")) == ["confirmed", "confirmed"]
    assert await told(ledger, Cancel("b"), Release("held"), Book("jazz", 4, "c", "anna")) == [
        "cancelled", "released", "confirmed",
    ]  # fmt: skip
    assert await told(ledger, Book("jazz", 1, "d")) == ["bad_request"]


async def test_a_late_confirmation_counts_for_the_limit(ledger: Ledger) -> None:
    await told(ledger, Create("Jazz", DATE, 10, "jazz", per_buyer=3), Hold("jazz", 2, 60, "held", "anna"))
    CLOCK.move(60)
    late = Confirm("held", late=True)
    assert await told(ledger, Book("jazz", 2, "a", "anna"), late) == ["confirmed", "buyer_limit"]
    assert await told(ledger, Cancel("a"), late, late) == ["cancelled", "confirmed", "confirmed"]
    assert await told(ledger, Book("jazz", 2, "b", "anna")) == ["buyer_limit"]


async def test_on_a_full_disk_a_limit_counts_what_still_counts_as_held(ledger: Ledger) -> None:
    limited = Create("Jazz", DATE, 10, "jazz", per_buyer=4)
    await told(ledger, limited, Book("jazz", 3, "a", "anna"), Hold("jazz", 1, 60, "b", "anna"))
    CLOCK.move(60)
    without = partial(ledger.without_commit, [Book("jazz", 2, "c", "anna")])
    [reply] = (await result_of(without, ErrorReply("storage_full", "full"))).replies
    refusal = on_the_wire(reply)
    # The hold that has run out cannot be ended now: the version is the one after it, and nothing was left then.
    assert (refusal["code"], refusal["version"], refusal["left"]) == ("buyer_limit", 2, 0)


# Deletions


async def test_an_event_made_and_deleted_in_a_batch_stays_away(ledger: Ledger) -> None:
    from_file = Adopt(Event("jazz", "Jazz", DATE, 10, 10, 0, 0, 0, 0))
    assert await told(ledger, JAZZ, Delete("jazz")) == ["event", "event"]
    assert await told(ledger, from_file) == ["event"]
    assert await ledger.events() == []
    assert await told(ledger, from_file, JAZZ, from_file, Book("jazz", 1, "a")) == [*["event"] * 3, "confirmed"]


async def test_an_event_is_deleted_and_made_again_in_a_batch(ledger: Ledger) -> None:
    again = Create("Again", DATE, 3, "jazz")
    await told(ledger, JAZZ, Create("Other", DATE, 1, "other"), Amend("jazz", capacity=20))
    # An amendment is no sale, whenever it comes.
    await told(ledger, Amend("jazz", capacity=30))
    assert await told(ledger, Delete("jazz"), again, Book("jazz", 2, "a")) == ["event", "event", "confirmed"]
    assert await told(ledger, Delete("jazz"), again, JAZZ) == ["event_in_use", "event", "event_exists"]
    assert [(event.id, event.capacity, event.version) for event in await ledger.events()] == [
        ("other", 1, 0), ("jazz", 3, 1),
    ]  # fmt: skip


async def test_what_was_ever_held_is_never_deleted(ledger: Ledger) -> None:
    await told(ledger, JAZZ, Hold("jazz", 1, 60, "a"), Release("a"))
    assert await told(ledger, Amend("jazz", capacity=3), Delete("jazz")) == ["event", "event_in_use"]
    assert await told(ledger, Create("B", DATE, 9, "b", 8), Delete("b")) == ["event", "event_in_use"]
    assert await told(ledger, Delete("nope"), Create("C", DATE, 9, "c"), Delete("c"), Delete("c")) == [
        "event_not_found", "event", "event", "event_not_found",
    ]  # fmt: skip


# Tickets


async def test_a_reissue_again_tells_what_it_told_before(ledger: Ledger) -> None:
    _, booked = (await transact(ledger, [JAZZ, Book("jazz", 1, "a")])).replies
    [old] = on_the_wire(booked)["tickets"]
    [reply] = (await transact(ledger, [Reissue(old)])).replies
    new = on_the_wire(reply)["id"]
    assert await told(ledger, Redeem(new, scan="s"), Reissue(old)) == ["redeemed", "valid"]
    again = on_the_wire((await transact(ledger, [Reissue(old)])).replies[0])
    assert (again["id"], again["replayed"]) == (new, True)


async def test_a_scan_of_a_booking_lets_nobody_in_twice(ledger: Ledger) -> None:
    _, booked = (await transact(ledger, [JAZZ, Book("jazz", 1, "a")])).replies
    [old] = on_the_wire(booked)["tickets"]
    assert await told(ledger, Redeem("a", scan="s"), Annul(old), Reissue(old)) == ["confirmed", "valid", "valid"]
    again = on_the_wire((await transact(ledger, [Redeem("a", scan="s")])).replies[0])
    assert again["replayed"]
    assert "redeemed" not in again


async def test_what_was_annulled_stays_in_the_history_of_a_ticket(ledger: Ledger) -> None:
    _, booked = (await transact(ledger, [JAZZ, Book("jazz", 1, "a")])).replies
    [ticket] = on_the_wire(booked)["tickets"]
    for request in (Redeem(ticket, scan="s"), Annul(ticket, reason="Typo"), Redeem(ticket, scan="t"), Annul(ticket)):
        await transact(ledger, [request])
    [shown] = await read(ledger, [Show(ticket)])
    history = [(each["what"], each.get("reason")) for each in on_the_wire(shown)["history"]]
    assert history == [("redeem", None), ("annul", "Typo"), ("redeem", None), ("annul", None)]
    assert on_the_wire(shown)["state"] == "valid"


# Holds


async def test_an_extended_hold_ends_later_and_keeps_its_past(ledger: Ledger) -> None:
    await told(ledger, JAZZ, Hold("jazz", 2, 60, "a"))
    assert await told(ledger, Extend("a", 100)) == ["held"]
    CLOCK.move(99)
    assert [event.held for event in (await transact(ledger, [Book("jazz", 1, "b")])).events] == [2]
    CLOCK.move(1)
    await transact(ledger, [])
    assert await past_of(ledger, "a") == ["extend", "expire"]
    assert await told(ledger, Extend("a", 60), Confirm("a", late=True)) == ["hold_expired", "confirmed"]
    assert await past_of(ledger, "a") == ["extend", "expire", "confirm"]


async def past_of(ledger: Ledger, booking: str) -> list[str]:
    """Return what happened to a booking."""
    [shown] = await read(ledger, [Show(booking)])
    return [change["what"] for change in on_the_wire(shown)["changes"]]
