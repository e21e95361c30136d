"""``reissue``: a new ticket id for the same place, and what becomes of the old one."""

import pytest

from tests.rules.cases import (
    BOOK,
    CONFIRMED,
    DATE,
    END,
    FIRST,
    HELD,
    JAZZ,
    LATE,
    MINE,
    ONE_GONE,
    SECOND,
    SOLD,
    Steps,
    booked,
    codes,
    committed,
    decide,
    decide_batch,
    last_part,
    of,
    one,
    refused,
    replayed,
    with_changes,
    working_set_after,
)
from ticketd.model import TicketState
from ticketd.wire.replies import BookingReply, ChangeFacts, ErrorReply, TicketReply
from ticketd.wire.requests import Annul, Book, Cancel, Confirm, Redeem, Reissue, Show

NEW, NEWER = of("b", 3, 4)
REISSUED: Steps = [*SOLD, Reissue(FIRST)]
AGAIN: Steps = [*REISSUED, Reissue(NEW)]
# In the same place.
NOW = [NEW, SECOND]


def valid(ticket: str, replayed: bool = False) -> TicketReply:
    return TicketReply(ticket, "jazz", ticket.rpartition(".")[0], "valid", replayed=replayed)


def state(rows: Steps, ticket: str) -> TicketState:
    shown = decide(working_set_after(rows), Show(ticket, "ticket"))
    assert isinstance(shown, TicketReply)
    return shown.state


def test_a_new_ticket_takes_the_place_of_the_old_one() -> None:
    rows = working_set_after([*SOLD, LATE])
    assert decide_batch(rows, Reissue(FIRST)) == [valid(NEW)]
    assert decide(committed(rows), Show("b")) == with_changes(
        booked("b", NOW, 1, 2), ChangeFacts("reissue", END, 1, 2, [FIRST, NEW])
    )
    event = rows.events["jazz"]
    assert (event.available, event.sold, event.version) == (1, 2, 2)
    assert (state(REISSUED, FIRST), state(REISSUED, NEW), state(REISSUED, SECOND)) == ("reissued", "valid", "valid")


def test_asked_again_the_same_new_ticket_comes() -> None:
    assert replayed(REISSUED, Reissue(FIRST)) == valid(NEW, True)
    assert replayed([*REISSUED, BOOK, Cancel("b", [SECOND])], Reissue(FIRST)) == valid(NEW, True)


@pytest.mark.parametrize("after", [Reissue(NEW), Cancel("b", [NEW]), Cancel("b"), Redeem(NEW), Redeem("b")])
def test_the_original_reply_comes_whatever_became_of_the_new_one(after: Reissue | Cancel | Redeem) -> None:
    assert replayed([*REISSUED, after], Reissue(FIRST)) == valid(NEW, True)


def test_a_new_ticket_can_be_reissued_too() -> None:
    assert decide(working_set_after(REISSUED), Reissue(NEW)) == valid(NEWER)
    assert replayed(AGAIN, Reissue(NEW)) == valid(NEWER, True)
    assert [state(AGAIN, ticket) for ticket in (FIRST, NEW, NEWER)] == ["reissued", "reissued", "valid"]
    assert decide(working_set_after(AGAIN), Show("b")) == with_changes(
        booked("b", [NEWER, SECOND], 1, 3),
        ChangeFacts("reissue", DATE, 1, 2, [FIRST, NEW]),
        ChangeFacts("reissue", DATE, 1, 3, [NEW, NEWER]),
    )


def test_replays_of_before_show_the_old_tickets() -> None:
    assert replayed(AGAIN, BOOK) == booked("b", MINE, 1, 1, True)
    assert replayed([*AGAIN, Cancel("b")], BOOK) == booked("b", MINE, 1, 1, True)
    confirmed: Steps = [*CONFIRMED, Reissue(one("h", 1))]
    assert replayed(confirmed, Confirm("h")) == booked("h", of("h", 1, 2), 1, 2, True)


def test_a_cancel_of_before_is_replayed_with_the_tickets_of_then() -> None:
    earlier: Steps = [*ONE_GONE, Reissue(FIRST)]
    assert replayed(earlier, Cancel("b", [SECOND])) == booked("b", MINE, 2, 2, True, [SECOND])
    assert decide(working_set_after(earlier), Cancel("b")) == booked("b", NOW, 3, 4, gone=NOW)
    assert replayed([*earlier, Cancel("b")], Cancel("b", [SECOND])) == booked("b", MINE, 2, 2, True, [SECOND])


def test_a_cancel_ends_the_new_ticket() -> None:
    assert decide(working_set_after(REISSUED), Cancel("b", [NEW])) == booked("b", NOW, 2, 3, gone=[NEW])
    assert decide(working_set_after(REISSUED), Cancel("b")) == booked("b", NOW, 3, 3, gone=NOW)
    gone: Steps = [*REISSUED, Cancel("b")]
    assert [state(gone, ticket) for ticket in (FIRST, NEW, SECOND)] == ["reissued", "cancelled", "cancelled"]


REFUSED: list[tuple[str, Steps, Reissue | Cancel | Redeem, str]] = [
    ("nothing", [JAZZ], Reissue(FIRST), "ticket_not_found"),
    ("no ticket of it", SOLD, Reissue(one("b", 9)), "ticket_not_found"),
    ("a booking", SOLD, Reissue("b"), "ticket_not_found"),
    ("what is held", HELD, Reissue(one("h", 1)), "ticket_not_found"),
    ("what ran out", [*HELD, LATE], Reissue(one("h", 1)), "ticket_not_found"),
    ("cancelled", ONE_GONE, Reissue(SECOND), "already_cancelled"),
    ("all cancelled", [*SOLD, Cancel("b")], Reissue(FIRST), "already_cancelled"),
    ("redeemed", [*SOLD, Redeem(FIRST)], Reissue(FIRST), "already_redeemed"),
    ("redeemed with all", [*SOLD, Redeem("b")], Reissue(SECOND), "already_redeemed"),
    ("redeemed again", [*SOLD, Redeem(FIRST), Annul(FIRST), Redeem(FIRST)], Reissue(FIRST), "already_redeemed"),
    ("new one cancelled", [*REISSUED, Cancel("b", [NEW])], Reissue(NEW), "already_cancelled"),
    ("new one redeemed", [*REISSUED, Redeem(NEW)], Reissue(NEW), "already_redeemed"),
    ("redeem the old one", REISSUED, Redeem(FIRST), "already_reissued"),
    ("redeem an older one", AGAIN, Redeem(FIRST), "already_reissued"),
    ("redeem the old one, all cancelled", [*REISSUED, Cancel("b")], Redeem(FIRST), "already_reissued"),
    ("cancel the old one", REISSUED, Cancel("b", [FIRST]), "already_reissued"),
    ("cancel old and new", REISSUED, Cancel("b", [FIRST, NEW]), "already_reissued"),
    ("cancel an older one", AGAIN, Cancel("b", [FIRST]), "already_reissued"),
]


@pytest.mark.parametrize(("earlier", "request_", "code"), [pytest.param(*row, id=name) for name, *row in REFUSED])
def test_a_ticket_that_is_not_valid_is_refused(earlier: Steps, request_: Reissue | Cancel | Redeem, code: str) -> None:
    assert refused(earlier, request_).code == code


def test_a_refused_cancel_says_what_is_left() -> None:
    refusal = refused(REISSUED, Cancel("b", [FIRST]))
    assert (refusal.available, refusal.version) == (1, 2)


def test_what_was_redeemed_and_annulled_can_be_reissued() -> None:
    rows = working_set_after([*SOLD, Redeem(FIRST), Annul(FIRST)])
    replies = decide_batch(rows, Reissue(FIRST), Redeem(FIRST), Redeem(NEW), Annul(FIRST))
    assert codes(replies) == [None, "already_reissued", None, None]
    shown = decide(committed(rows), Show(FIRST))
    assert isinstance(shown, TicketReply)
    assert (shown.state, [each.what for each in shown.history]) == ("reissued", ["redeem", "annul"])


def test_a_batch_sees_its_own_reissues() -> None:
    rows = working_set_after(SOLD)
    assert decide_batch(rows, Reissue(FIRST), Reissue(FIRST), Redeem(NEW), Cancel("b", [SECOND]), BOOK) == [
        valid(NEW),
        valid(NEW, True),
        TicketReply(NEW, "jazz", "b", "redeemed", DATE),
        booked("b", NOW, 2, 3, gone=[SECOND]),
        booked("b", MINE, 1, 1, True),
    ]


def test_a_new_ticket_is_none_that_the_booking_ever_had() -> None:
    working_set = working_set_after(REISSUED)
    working_set.new_ticket = iter(map(last_part, [1, 2, 3, 5])).__next__
    assert decide(working_set, Reissue(NEW)) == valid(one("b", 5))


def test_a_booking_is_not_reissued_without_end() -> None:
    # Each one is kept in the history of the booking, which has to fit into a reply.
    working_set = working_set_after([JAZZ, Book("jazz", 1, "b")])
    ticket = FIRST
    reissued = 0
    for _ in range(2_000):
        reply = decide(working_set, Reissue(ticket))
        if isinstance(reply, ErrorReply):
            break
        assert isinstance(reply, TicketReply)
        ticket = reply.id
        reissued += 1
    assert codes([reply]) == ["bad_request"]
    assert reissued == 1_000
    assert isinstance(decide(working_set, Cancel("b", [ticket])), BookingReply)
