"""``annul``: a redemption is taken back, and stays in the history of its ticket."""

from tests.rules.cases import (
    CONFIRMED,
    DATE,
    END,
    FIRST,
    LATE,
    SOLD,
    Steps,
    codes,
    committed,
    decide,
    decide_batch,
    one,
    replayed,
    working_set_after,
)
from ticketd.wire.replies import BookingReply, RedemptionFacts, TicketReply
from ticketd.wire.requests import Annul, Cancel, Redeem, Show


def scan(ticket: str, scan: str = "s") -> Redeem:
    return Redeem(ticket, "jazz", scan)


ANNULLED: Steps = [*SOLD, scan(FIRST), Annul(FIRST)]


def test_an_annulment_makes_a_ticket_valid_again() -> None:
    rows = working_set_after([*SOLD, scan(FIRST), LATE])
    [reply] = decide_batch(rows, Annul(FIRST, "jazz", "wrong person"))
    history = [RedemptionFacts("redeem", DATE), RedemptionFacts("annul", END, "wrong person")]
    assert reply == TicketReply(FIRST, "jazz", "b", "valid", None, history)
    assert decide(committed(rows), Show(FIRST)) == reply
    shown = decide(committed(rows), Show("b"))
    assert isinstance(shown, BookingReply)
    assert (shown.redeemed, shown.redeemed_at) == ((), ())
    assert codes(decide_batch(rows, scan(FIRST, "t"))) == [None]


def test_an_annulment_again_is_replayed() -> None:
    reply = replayed([*ANNULLED, LATE], Annul(FIRST, reason="another"))
    history = [RedemptionFacts("redeem", DATE), RedemptionFacts("annul", DATE)]
    assert reply == TicketReply(FIRST, "jazz", "b", "valid", None, history, replayed=True)


def test_what_was_annulled_can_be_cancelled() -> None:
    rows = working_set_after(ANNULLED)
    assert codes(decide_batch(rows, Cancel("b", [FIRST]), scan(FIRST, "t"))) == [None, "already_cancelled"]


def test_a_batch_sees_its_own_scans_and_annulments() -> None:
    rows = working_set_after(CONFIRMED)
    hers = one("h", 1)
    requests = [
        Annul(hers),
        scan(hers),
        scan(hers, "t"),
        Annul(hers),
        scan(hers),
        scan(hers, "t"),
        scan("h", "u"),
        scan("h", "v"),
        Annul(hers),
        Cancel("h", [hers]),
        scan("h", "w"),
    ]
    assert codes(decide_batch(rows, *requests)) == [
        "not_redeemed",
        None,
        "already_redeemed",
        None,
        None,
        None,
        None,
        "already_redeemed",
        None,
        None,
        "already_redeemed",
    ]
    numbers = [each.number for each in rows.history("h", hers.rpartition(".")[2])]
    assert numbers == [1, 2, 3, 4]


def test_a_ticket_is_not_annulled_without_end() -> None:
    # All of it is kept in the history of the ticket, which has to fit into a reply.
    rows = working_set_after(SOLD)
    annulled = 0
    for number in range(200):
        assert codes(decide_batch(rows, scan(FIRST, f"s{number}"))) == [None]
        if codes(decide_batch(rows, Annul(FIRST))) != [None]:
            break
        annulled += 1
    assert annulled == 100
    assert codes(decide_batch(rows, Annul(FIRST))) == ["bad_request"]
