"""A ledger that is closed and opened again: everything that any command writes is there, and whole."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.callbacks import commit, read
from tests.faketime import Clock
from tests.ledger.sale import ticketd
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.model import Event
from ticketd.rules.working_set import Adopt
from ticketd.wire.replies import BookingReply, BookingsReply, Reply
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Bookings,
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

SECONDS_MAX = 30
DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)


async def test_a_reopened_ledger_tells_what_it_told_before(tmp_path: Path) -> None:
    clock = Clock()
    ledger = EmbeddedLedger(tmp_path / "events.db", SECONDS_MAX, clock)
    rock = Create("Rock", DATE, 9, "rock", 3, opens=clock.time, closes=DATE, per_buyer=2)
    await commit(ledger, Create("Jazz", DATE, 100, "jazz"), rock, Create("A mistake", DATE, 9, "gone"))
    [b] = (await commit(ledger, Book("jazz", 4, "b", "anna"))).replies
    await commit(ledger, *(Hold("jazz", 2, 60, id_) for id_ in ("c", "r", "x", "l")), Hold("rock", 1, 600, "h", "anna"))
    first, second, third, fourth = tickets_of(b)
    await commit(ledger, Confirm("c"), Release("r"), Cancel("b", [second]), Redeem(first, scan="s1"), Extend("x", 61))
    clock.move(60)
    await commit(ledger, Amend("rock", "Rocks", paused=True), Cancel("c"), Confirm("l", late=True), Extend("h", 900))
    await commit(ledger, Redeem("b", "jazz", "s2"), Annul(third, reason="Typo"), Reissue(third), Delete("gone"))
    clock.move(2)
    await commit(ledger)
    asked = [Bookings(), Bookings(buyer="anna"), *map(Show, [*"bcrxhl", first, second, third, fourth, "gone", "none"])]
    before = read(ledger, *asked), await ledger.events(), ledger.next_expiry, ledger.held("h")
    await ledger.close()
    again = EmbeddedLedger(tmp_path / "events.db", SECONDS_MAX, clock)
    assert (read(again, *asked), await again.events(), again.next_expiry, again.held("h")) == before
    assert {state for booking in before[0][:1] for state in states(booking)} == {
        *("confirmed", "cancelled", "released", "expired", "held")
    }
    # What was deleted does not come back, and what was done is not done again.
    replies = (
        await commit(
            again,
            Adopt(Event("gone", "A mistake", DATE, 9, 9, 0, 0, 0, 0)),
            Delete("gone"),
            Redeem("b", "jazz", "s2"),
            Reissue(third),
            Confirm("l"),
        )
    ).replies
    assert codes(replies) == [None, "event_not_found", None, None, None]
    assert all(getattr(reply, "replayed", False) for reply in replies[2:])
    await again.close()
    done = ticketd("check", str(tmp_path / "events.db"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "whole")


def states(reply: Reply) -> list[str]:
    assert isinstance(reply, BookingsReply)
    return [booking.state for booking in reply.bookings]


def tickets_of(reply: Reply) -> list[str]:
    assert isinstance(reply, BookingReply)
    return reply.tickets


def codes(replies: Sequence[Reply]) -> list[str | None]:
    return [getattr(reply, "code", None) for reply in replies]
