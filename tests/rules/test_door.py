"""The door: ``redeem`` with an event and a scan, whole bookings, and ``annul``."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.cases import (
    ALL_GONE,
    DATE,
    END,
    EXPIRED,
    FIRST,
    HELD,
    JAZZ,
    LATE,
    MINE,
    OLD,
    ONE_GONE,
    POINTS,
    RELEASED,
    SECOND,
    SOLD,
    Steps,
    booked,
    codes,
    committed,
    decide,
    decide_batch,
    of,
    one,
    refused,
    replayed,
    working_set_after,
)
from ticketd.model import redeemed_at
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, ErrorReply, RedemptionFacts, TicketReply
from ticketd.wire.requests import Annul, Book, Cancel, Redeem, Reissue, Show


def scan(ticket: str, scan: str = "s", event: str = "jazz") -> Redeem:
    return Redeem(ticket, event, scan)


def used(ticket: str = FIRST, replayed: bool = False) -> TicketReply:
    return TicketReply(ticket, "jazz", "b", "redeemed", DATE, replayed=replayed)


def used_all(replayed: bool = False, admitted: Sequence[str] = MINE) -> BookingReply:
    return booked("b", MINE, 1, 1, replayed, used=MINE, admitted=admitted)


SCANNED: Steps = [*SOLD, scan(FIRST)]
ANNULLED: Steps = [*SCANNED, Annul(FIRST)]
NEW = one("b", 3)


# Scans


def test_the_same_scan_again_is_replayed() -> None:
    assert decide(working_set_after(SOLD), scan(FIRST)) == used()
    assert replayed(SCANNED, scan(FIRST)) == used(replayed=True)
    assert replayed([*SCANNED, LATE], Redeem(FIRST, scan="s")) == used(replayed=True)


def test_another_scan_is_refused_with_the_time_of_the_first() -> None:
    refusal = refused([*SCANNED, LATE], scan(FIRST, "t"))
    assert refusal == ErrorReply("already_redeemed", refusal.message, redeemed_at=DATE)
    assert "2027-03-11T20:00:00Z" in refusal.message


def test_one_scan_may_have_the_id_of_another_of_another_ticket() -> None:
    assert decide(working_set_after(SCANNED), scan(SECOND)) == used(SECOND)


def test_a_scan_replayed_after_an_annulment_redeems_nothing() -> None:
    assert replayed(ANNULLED, scan(FIRST)) == used(replayed=True)
    shown = decide(working_set_after(ANNULLED), Show(FIRST))
    assert isinstance(shown, TicketReply)
    assert shown.state == "valid"


def test_each_scan_is_replayed_as_it_was() -> None:
    earlier: Steps = [*ANNULLED, LATE, scan(FIRST, "t"), LATE]
    again = replayed(earlier, scan(FIRST, "t"))
    history = [RedemptionFacts("redeem", DATE), RedemptionFacts("annul", DATE), RedemptionFacts("redeem", END)]
    assert again == TicketReply(FIRST, "jazz", "b", "redeemed", END, history, replayed=True)
    assert replayed(earlier, scan(FIRST)) == used(replayed=True)
    assert refused(earlier, scan(FIRST, "u")).redeemed_at == END


def test_a_scan_is_replayed_after_a_reissue() -> None:
    assert replayed([*ANNULLED, Reissue(FIRST)], scan(FIRST)) == used(replayed=True)


# The event


@pytest.mark.parametrize("earlier", [SOLD, SCANNED, ANNULLED, [*SOLD, Cancel("b")], [*SOLD, Reissue(FIRST)]])
@pytest.mark.parametrize("request_", [scan(FIRST, event="old"), Annul(FIRST, "old"), scan("b", event="nope")])
def test_a_ticket_of_another_event_stays_as_it_is(earlier: Steps, request_: Redeem | Annul) -> None:
    refusal = refused([OLD, *earlier], request_)
    assert refusal.code == "wrong_event"
    assert "event jazz" in refusal.message


@pytest.mark.parametrize("earlier", [HELD, RELEASED, EXPIRED])
def test_a_booking_of_another_event_is_that_first_of_all(earlier: Steps) -> None:
    assert refused(earlier, scan("h", event="old")).code == "wrong_event"


def test_after_a_wrong_door_the_right_one_lets_in() -> None:
    rows = working_set_after([OLD, *SOLD])
    assert codes(decide_batch(rows, scan(FIRST, "s", "old"), scan(FIRST, "t", "jazz"))) == ["wrong_event", None]


# Whole bookings


def test_a_booking_lets_in_all_its_tickets_at_once() -> None:
    rows = working_set_after(SOLD)
    assert decide_batch(rows, scan("b")) == [used_all()]
    assert codes(decide_batch(rows, scan(FIRST, "t"), scan(SECOND, "u"))) == ["already_redeemed"] * 2


def test_a_booking_lets_in_only_what_is_valid() -> None:
    assert decide(working_set_after(ONE_GONE), scan("b")) == booked(
        "b", MINE, 2, 2, gone=[SECOND], used=[FIRST], admitted=[FIRST]
    )
    assert decide(working_set_after([*SOLD, Redeem(FIRST)]), scan("b")) == used_all(admitted=[SECOND])
    working_set = working_set_after([*SOLD, Reissue(FIRST)])
    assert decide(working_set, scan("b")) == booked(
        "b", [NEW, SECOND], 1, 2, used=[NEW, SECOND], admitted=[NEW, SECOND]
    )
    assert [each.ticket for each in working_set.new_redemptions] == [part.rpartition(".")[2] for part in (NEW, SECOND)]


def test_a_scan_of_a_booking_is_replayed() -> None:
    assert replayed([*SOLD, scan("b")], scan("b")) == used_all(replayed=True)
    # It shows what is used now, and whom this scan let in.
    annulled: Steps = [*SOLD, scan("b"), Annul(FIRST)]
    assert replayed(annulled, scan("b")) == booked("b", MINE, 1, 1, True, used=[SECOND], admitted=MINE)
    assert decide(working_set_after(annulled), scan("b", "t")) == used_all(admitted=[FIRST])
    assert replayed([*annulled, scan("b", "t")], scan("b", "t")) == used_all(True, [FIRST])
    assert replayed([*SCANNED, scan(SECOND, "t")], scan("b")) == used_all(True, [FIRST])


def test_a_scan_of_a_booking_is_replayed_after_all_is_reissued() -> None:
    # A scan that was sent twice, the second time late, must not use what was given for the annulled ticket.
    earlier: Steps = [JAZZ, Book("jazz", 1, "b"), scan("b"), Annul(FIRST), Reissue(FIRST)]
    assert replayed(earlier, scan("b")) == booked("b", of("b", 2), 2, 2, True, admitted=[FIRST])


def test_those_whom_a_scan_let_in_are_replayed_in_the_same_order_after_reissues() -> None:
    earlier: Steps = [*SOLD, scan("b"), Annul(FIRST), Reissue(FIRST), Annul(SECOND), Reissue(SECOND), Reissue(NEW)]
    assert replayed(earlier, scan("b")) == booked("b", of("b", 5, 4), 1, 4, True, admitted=MINE)


REFUSED: list[tuple[str, Steps, LedgerRequest, str]] = [
    ("nothing", [JAZZ], scan("b"), "ticket_not_found"),
    ("a held booking", HELD, scan("h"), "bad_request"),
    ("a released booking", RELEASED, scan("h"), "already_released"),
    ("a booking that ran out", EXPIRED, scan("h"), "hold_expired"),
    ("a cancelled booking", ALL_GONE, scan("b"), "already_cancelled"),
    ("a used booking", [*SOLD, scan("b")], scan("b", "t"), "already_redeemed"),
    ("a booking, used one by one", [*SOLD, scan(FIRST), scan(SECOND)], scan("b", "t"), "already_redeemed"),
    ("a booking, one used, one gone", [*ONE_GONE, scan(FIRST)], scan("b", "t"), "already_redeemed"),
    ("an event", SOLD, scan("jazz"), "ticket_not_found"),
    ("annul nothing", [JAZZ], Annul(FIRST), "ticket_not_found"),
    ("annul a booking", [*SOLD, scan("b")], Annul("b"), "ticket_not_found"),
    ("annul no ticket", SOLD, Annul(one("b", 9)), "ticket_not_found"),
    ("annul what is held", HELD, Annul(one("h", 1)), "ticket_not_found"),
    ("annul what was never used", SOLD, Annul(FIRST), "not_redeemed"),
    ("annul a cancelled ticket", ONE_GONE, Annul(SECOND), "not_redeemed"),
    ("annul a reissued ticket", [*SOLD, Reissue(FIRST)], Annul(FIRST), "not_redeemed"),
    ("annul a new ticket", [*ANNULLED, Reissue(FIRST)], Annul(NEW), "not_redeemed"),
    ("cancel what is used again", [*ANNULLED, scan(FIRST, "t")], Cancel("b"), "already_redeemed"),
]


@pytest.mark.parametrize(("earlier", "request_", "code"), [pytest.param(*row, id=name) for name, *row in REFUSED])
def test_what_cannot_be_let_in_or_taken_back_is_refused(earlier: Steps, request_: LedgerRequest, code: str) -> None:
    assert refused(earlier, request_).code == code


def test_a_used_booking_says_when_its_last_ticket_was_used() -> None:
    refusal = refused([*SOLD, scan(SECOND), LATE, scan(FIRST)], scan("b", "t"))
    assert (refusal.redeemed_at, "the last at 2027-03-11T20:01:00Z" in refusal.message) == (END, True)


def test_a_ticket_comes_before_a_booking_with_its_id() -> None:
    # The third booking has the id of the first one's ticket.
    reply = decide(working_set_after(POINTS), scan(one("a", 1)))
    assert reply == TicketReply(one("a", 1), "jazz", "a", "redeemed", DATE)
    whole = one("a", 1)
    assert isinstance(decide(working_set_after([*POINTS, Cancel("a")]), Show(whole)), BookingReply)


def test_a_booking_whose_id_looks_like_a_ticket_is_let_in() -> None:
    id = one("x", 7)
    reply = decide(working_set_after([JAZZ, Book("jazz", 1, id)]), scan(id))
    assert isinstance(reply, BookingReply)
    assert reply.redeemed == of(id, 1)


@pytest.mark.parametrize("request_", [scan("b"), Cancel("b"), Cancel("b", MINE)])
def test_a_large_booking_is_not_searched_for_each_of_its_tickets(request_: LedgerRequest) -> None:
    # With a thousand tickets that would be a million steps, during which nobody else is served.
    working_set = working_set_after(SOLD)
    looks = 0

    class Counted(list[str]):
        def __contains__(self, ticket: object) -> bool:
            nonlocal looks
            looks += 1
            return super().__contains__(ticket)

    booking = working_set.bookings["b"]
    booking.tickets = Counted(booking.tickets)
    assert isinstance(decide(working_set, request_), BookingReply)
    assert looks == 0


# In any order

SCANS = st.sampled_from("stu")
TICKETS = st.integers(1, 5).map(lambda number: one("b", number))
STEPS = st.one_of(
    st.builds(lambda ticket, id: Redeem(ticket, scan=id), TICKETS | st.just("b"), SCANS),
    st.builds(Annul, TICKETS),
    st.builds(Reissue, TICKETS),
    st.builds(lambda ticket: Cancel("b", [ticket]), TICKETS),
)


@given(st.lists(STEPS, max_size=30))
def test_no_place_is_used_twice_and_no_scan_counts_twice(steps: list[LedgerRequest]) -> None:
    rows = working_set_after(SOLD)
    done: set[tuple[str, str]] = set()
    for step in steps:
        before = committed(rows)
        [reply] = decide_batch(rows, step, passed=timedelta(seconds=1))
        booking, histories = rows.bookings["b"], rows.redemptions.get("b", {})
        used = [ticket for ticket, history in histories.items() if redeemed_at(history) is not None]
        assert {*used} <= {*booking.tickets} - booking.cancelled()
        for history in histories.values():
            assert [each.number for each in history] == list(range(1, len(history) + 1))
            assert [each.what for each in history] == (["redeem", "annul"] * len(history))[: len(history)]
        if isinstance(reply, ErrorReply) or getattr(reply, "replayed", False):
            assert (rows.bookings, rows.redemptions, rows.events) == (
                before.bookings,
                before.redemptions,
                before.events,
            )
        elif isinstance(step, Redeem):
            assert (step.ticket, str(step.scan)) not in done
            done.add((step.ticket, str(step.scan)))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Redeem("x"), "there is no ticket and no booking x"),
        (Annul("b"), "there is no ticket b; if this is a booking, show b lists its tickets"),
        (Reissue("b"), "there is no ticket b; if this is a booking, show b lists its tickets"),
        (Cancel(FIRST), f"there is no booking {FIRST}; this looks like a ticket of the booking b"),
        (Annul(one("c", 3)), f"there is no ticket {one('c', 3)}"),
    ],
)
def test_an_id_of_another_kind_is_told_apart(request_: LedgerRequest, said: str) -> None:
    assert refused(SOLD, request_).message == said
