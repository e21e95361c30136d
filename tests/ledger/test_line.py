"""Waiting lists in one file: whoever waits gets tickets in the commit that frees them, in order, and once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.callbacks import read
from tests.faketime import Clock
from tests.ledger.waiting import Sale, waits
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Extend, Hold, Release, Show, Wait


@pytest.fixture
async def sale(tmp_path: Path) -> AsyncIterator[Sale]:
    sale = Sale(tmp_path / "ledger", Clock())
    await sale.begin()
    yield sale
    await sale.close()


# Offers


@pytest.mark.parametrize("frees", ["cancel", "cancel in part", "release", "expiry", "capacity"])
async def test_what_a_commit_frees_is_offered_in_it(frees: str, sale: Sale) -> None:
    await sale.commit(*waits(a=1, b=1, c=1))
    [sold] = read(sale.ledger, Show("s"))
    assert isinstance(sold, BookingReply)
    if frees == "expiry":
        sale.clock.move(60)
    requests: dict[str, list[LedgerRequest]] = {
        "cancel": [Cancel("s")],
        "cancel in part": [Cancel("s", sold.tickets[:1]), Cancel("s", sold.tickets[1:])],
        "release": [Release("h")],
        "capacity": [Amend("e", capacity=8)],
        "expiry": [],
    }
    assert await sale.offers(*requests[frees]) == ["a", "b"]
    await sale.kill()
    assert (sale.line(), await sale.left()) == ({"a": "held", "b": "held", "c": 1}, (0, 1))
    assert sale.ledger.next_expiry == sale.clock() + 30_000
    assert (sale.ledger.held("a"), sale.ledger.held("c")) == (("e", 1), None)
    assert not (await sale.commit()).changed


async def test_nobody_gets_between_what_is_freed_and_who_waits(sale: Sale) -> None:
    await sale.commit(*waits(a=2))
    assert await sale.codes(Cancel("s"), Book("e", 1, "late"), *waits(b=1)) == ["cancelled", "sold_out", "waiting"]
    assert sale.line() == {"a": "held", "b": 1}


async def test_a_party_may_be_overtaken_by_those_who_need_less(sale: Sale) -> None:
    await sale.commit(*waits(a=3, b=1, c=2, d=1))
    assert await sale.offers(Cancel("s")) == ["b", "d"]
    assert await sale.offers(Release("h")) == ["c"]
    # What is too little for all who wait is for everybody.
    assert await sale.codes(Confirm("b"), Confirm("d"), Cancel("t"), Book("e", 1, "public")) == [
        *("confirmed", "confirmed", "cancelled", "confirmed")
    ]
    assert await sale.offers(Release("c")) == ["a"]
    assert sale.line() == {"a": "held", "b": "confirmed", "c": "released", "d": "confirmed", "public": "confirmed"}


async def test_who_lets_an_offer_run_out_does_not_come_back(sale: Sale) -> None:
    await sale.commit(*waits(a=2, b=2, c=2))
    assert await sale.offers(Cancel("s")) == ["a"]
    sale.clock.move(20)
    await sale.commit(Extend("a", 30), Extend("h", 86_400))
    sale.clock.move(29)
    assert await sale.offers() == []
    sale.clock.move(1)
    assert await sale.offers() == ["b"]
    assert sale.line() == {"a": "expired", "b": "held", "c": 1}
    sale.clock.move(30)
    assert await sale.offers() == ["c"]
    assert sale.line() == {"a": "expired", "b": "expired", "c": "held"}
    assert await sale.codes(Confirm("a"), Confirm("c")) == ["hold_expired", "confirmed"]


async def test_who_leaves_gets_nothing_and_the_others_move_up(sale: Sale) -> None:
    await sale.commit(*waits(a=2, b=2, c=2))
    assert await sale.codes(Release("a"), Release("a"), Confirm("b"), Extend("c", 60)) == [
        *("released", "released", "bad_request", "bad_request")
    ]
    assert sale.line() == {"a": "released", "b": 1, "c": 2}
    assert await sale.offers(Release("b"), Cancel("s"), Release("c")) == ["c"]
    assert sale.line() == {"a": "released", "b": "released", "c": "released"}
    assert await sale.left() == (2, 0)


# Off sale


async def test_nothing_is_offered_while_a_sale_is_paused(sale: Sale) -> None:
    await sale.commit(*waits(a=1, b=1), Amend("e", paused=True))
    assert await sale.offers(Cancel("s")) == []
    assert await sale.codes(*waits(c=1)) == ["not_on_sale"]
    await sale.kill()
    # What is available at the start may not have been offered.
    assert sale.ledger.next_expiry == 0
    assert await sale.offers() == []
    assert sale.ledger.next_expiry == sale.clock() + 60_000
    assert await sale.offers(Release("a"), Amend("e", paused=False)) == ["b"]


async def test_those_who_wait_are_served_when_the_sale_opens_again(sale: Sale) -> None:
    await sale.commit(*waits(a=1, b=1, c=1), Amend("e", opens=sale.clock.time + timedelta(seconds=45)))
    assert await sale.offers(Cancel("s")) == []
    for _ in range(2):
        # The hold ends later.
        assert sale.ledger.next_expiry == sale.clock() + 45_000
        await sale.kill()
    sale.clock.move(44.999)
    assert await sale.offers() == []
    sale.clock.move(0.001)
    assert sale.ledger.next_expiry == sale.clock()
    assert await sale.codes(Book("e", 1, "public")) == ["sold_out"]
    assert sale.line() == {"a": "held", "b": "held", "c": 1}
    assert sale.ledger.next_expiry == sale.clock() + 15_000


async def test_nothing_is_offered_after_the_sale_has_closed(sale: Sale) -> None:
    await sale.commit(*waits(a=1), Amend("e", closes=sale.clock.time + timedelta(seconds=10)))
    sale.clock.move(10)
    assert await sale.offers(Cancel("s")) == []
    sale.clock.move(60)
    assert await sale.offers() == []
    assert sale.ledger.next_expiry is None
    assert await sale.codes(Release("a")) == ["released"]
    assert (sale.line(), await sale.left()) == ({"a": "released"}, (4, 0))


# Limits per buyer


async def test_who_is_over_a_new_limit_leaves_at_their_turn(sale: Sale) -> None:
    both = [Wait("e", quantity, 30, f"{buyer}-{quantity}", buyer) for quantity in (2, 1) for buyer in "xy"]
    await sale.commit(*both, *waits(nobody=1))
    await sale.commit(Amend("e", per_buyer=2))
    await sale.kill()
    assert sale.line() == {"x-2": 1, "y-2": 2, "x-1": 3, "y-1": 4, "nobody": 5}
    # Both have 3, until the first booking of each leaves.
    turns = [await sale.commit(Cancel("s"), Release("h"))]
    while sale.ledger.next_expiry == 0:
        turns.append(await sale.commit())
    assert [booking.id for answers in turns for booking in answers.evicted] == ["x-2", "y-2", "nobody"]
    assert [booking.id for answers in turns for booking in answers.offered] == ["x-1", "y-1"]
    assert await sale.left() == (2, 0)


# Replays


async def test_a_wait_that_is_sent_again_is_answered_as_before(sale: Sale) -> None:
    first = (await sale.commit(*waits(a=1, b=2))).replies
    assert [getattr(reply, "position", None) for reply in first] == [1, 2]
    await sale.commit(Release("a"), Cancel("s"), Confirm("b"))
    await sale.kill()
    for reply, again in zip(first, (await sale.commit(*waits(a=1, b=2))).replies, strict=True):
        assert isinstance(reply, BookingReply)
        reply.position, reply.replayed = None, True
        assert again == reply
    others = [Wait("e", 2, 30, "a"), Wait("e", 1, 31, "a"), Wait("e", 1, 30, "a", "anna"), Hold("e", 1, 30, "a")]
    assert await sale.codes(*others, Wait("e", 2, 60, "h")) == ["booking_conflict"] * 5


async def test_a_wait_that_got_tickets_at_once_is_answered_so_again(sale: Sale) -> None:
    await sale.commit(Cancel("t"))
    [at_once] = (await sale.commit(*waits(c=1))).replies
    assert isinstance(at_once, BookingReply)
    assert (at_once.state, at_once.position) == ("held", None)
    sale.clock.move(30)
    await sale.commit()
    at_once.replayed = True
    assert (await sale.commit(*waits(c=1))).replies == [at_once]
    assert sale.line() == {"c": "expired"}
