"""Who did what: the rules note the name of whoever sent a request, and hide the names from whoever may not see them."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from tests.rules.cases import DATE, FIRST, JAZZ, LATE, MINE, Steps, codes, committed, decide, of, working_set_after
from ticketd.rules.commands import decide_all
from ticketd.rules.showing import hide_names
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.codec import encode
from ticketd.wire.replies import BookingReply, TicketReply
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Cancel,
    Confirm,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Show,
    Wait,
)


def decided(earlier: Steps, requests: Sequence[LedgerRequest], actors: Sequence[str | None] | None) -> WorkingSet:
    """Return what a ledger has once all requests were granted."""
    working_set = working_set_after(earlier)
    assert codes(decide_all(working_set, requests, actors)) == [None] * len(requests)
    return committed(working_set)


def shown(working_set: WorkingSet, id_: str) -> BookingReply | TicketReply:
    reply = decide(working_set, Show(id_))
    assert isinstance(reply, BookingReply | TicketReply)
    return reply


@pytest.mark.parametrize(
    ("earlier", "request_"),
    [
        ([JAZZ, Hold("jazz", 2, 60, "h"), Wait("jazz", 2, 60, "b")], Release("b")),
        ([JAZZ, Hold("jazz", 2, 60, "b")], Extend("b", 70)),
        ([JAZZ, Hold("jazz", 2, 60, "b")], Confirm("b")),
        ([JAZZ, Hold("jazz", 2, 60, "b"), LATE], Confirm("b", late=True)),
        ([JAZZ, Hold("jazz", 2, 60, "b")], Release("b")),
        ([JAZZ, Book("jazz", 2, "b")], Cancel("b")),
        ([JAZZ, Book("jazz", 2, "b")], Cancel("b", [FIRST])),
        ([JAZZ, Book("jazz", 2, "b")], Reissue(FIRST)),
    ],
)
def test_every_change_of_a_booking_has_the_name_of_who_asked(earlier: Steps, request_: LedgerRequest) -> None:
    booking = shown(decided(earlier, [request_], ["box-1"]), "b")
    assert isinstance(booking, BookingReply)
    assert (booking.by, booking.changes[-1].by) == (None, "box-1")
    assert [change.by for change in booking.changes[:-1]] == [None] * (len(booking.changes) - 1)


@pytest.mark.parametrize("request_", [Book("jazz", 2, "b"), Hold("jazz", 2, 60, "b")])
def test_a_booking_has_the_name_of_who_made_it(request_: LedgerRequest) -> None:
    booking = shown(decided([JAZZ], [request_], ["box-1"]), "b")
    assert isinstance(booking, BookingReply)
    assert (booking.by, booking.changes) == ("box-1", ())


def test_a_single_redemption_tells_who_let_them_in() -> None:
    used = decided([JAZZ, Book("jazz", 2, "b")], [Redeem("b", scan="s")], ["door"])
    for id_ in MINE:
        ticket = shown(used, id_)
        assert isinstance(ticket, TicketReply)
        assert (ticket.by, ticket.history) == ("door", ())


def test_the_history_of_a_ticket_has_every_name() -> None:
    requests: list[LedgerRequest] = [Redeem(FIRST, scan="s"), Annul(FIRST), Redeem(FIRST, scan="t")]
    ticket = shown(decided([JAZZ, Book("jazz", 2, "b")], requests, ["door", None, "boss"]), FIRST)
    assert isinstance(ticket, TicketReply)
    assert [each.by for each in ticket.history] == ["door", None, "boss"]


def test_names_of_one_batch_are_not_mixed_up() -> None:
    requests: list[LedgerRequest] = [Book("jazz", 1, "a"), Amend("jazz", capacity=9), Book("jazz", 1, "b"), Cancel("a")]
    working_set = decided([JAZZ], requests, ["box-1", "boss", None, "box-2"])
    a, b = shown(working_set, "a"), shown(working_set, "b")
    assert isinstance(a, BookingReply)
    assert isinstance(b, BookingReply)
    assert (a.by, a.changes[0].by, b.by) == ("box-1", "box-2", None)


def test_a_request_without_its_name_is_a_bug() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        decide_all(working_set_after([JAZZ]), [Book("jazz", 1, "a"), Book("jazz", 1, "b")], ["box-1"])


def test_holds_that_run_out_in_a_batch_have_no_name() -> None:
    earlier: Steps = [JAZZ, Hold("jazz", 2, 60, "b")]
    working_set = committed(working_set_after(earlier), timedelta(seconds=60))
    decide_all(working_set, [Book("jazz", 1, "c")], ["box-1"])
    assert [change.actor for change in working_set.expired.values()] == [None]


def test_what_is_offered_in_a_batch_has_the_name_of_nobody_who_freed_it() -> None:
    working_set = working_set_after([JAZZ, Hold("jazz", 3, 60, "h"), Wait("jazz", 2, 60, "w")])
    decide_all(working_set, [Release("h")], ["box-1"])
    assert [change.actor for change in working_set.bookings["w"].changes or ()] == [None]


def test_without_names_replies_are_as_they_were() -> None:
    requests: list[LedgerRequest] = [Book("jazz", 2, "b"), Cancel("b", of("b", 2)), Redeem(FIRST, scan="s")]
    for actors in (None, [None] * 3):
        working_set = decided([JAZZ], requests, actors)
        assert b'"by"' not in encode(shown(working_set, "b")) + encode(shown(working_set, FIRST))
        ticket = shown(working_set, FIRST)
        assert ticket == TicketReply(FIRST, "jazz", "b", "redeemed", DATE)


def test_only_what_is_read_has_names_and_hidden_ones_are_gone() -> None:
    requests: list[LedgerRequest] = [
        Hold("jazz", 2, 60, "b"), Extend("b", 70), Confirm("b"), Redeem(FIRST, scan="s"), Annul(FIRST),
        Redeem(FIRST, scan="t"), Cancel("b", of("b", 2)),
    ]  # fmt: skip
    working_set = working_set_after([JAZZ])
    decided = decide_all(working_set, requests, ["secret-name"] * len(requests))
    assert b"secret-name" not in b"".join(map(encode, decided))
    read = [shown(committed(working_set), id_) for id_ in ("b", FIRST)]
    assert all(b"secret-name" in encode(reply) for reply in read)
    hide_names(read)
    assert b"secret-name" not in b"".join(map(encode, read))
