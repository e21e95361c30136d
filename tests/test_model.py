import sys
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketd.ids import new_ticket
from ticketd.model import (
    TICKET_CHARS,
    UNSAFE,
    Booking,
    BookingState,
    Change,
    Event,
    Id,
    Redemption,
    TicketId,
    milliseconds,
    printable,
    redeemed_at,
    ticket_id,
    ticket_parts,
    time_of,
    utc,
)

DIRECTION_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def forges(char: str) -> bool:
    """Whether Unicode's own tables call it a control, a line separator, half a pair or a change of direction."""
    return (
        unicodedata.category(char) in {"Cc", "Zl", "Zp", "Cs"} or unicodedata.bidirectional(char) in DIRECTION_CONTROLS
    )


def test_characters_that_forge_lines_or_reorder_text_are_unsafe() -> None:
    wrong = [f"U+{n:04X}" for n in range(sys.maxunicode + 1) if bool(UNSAFE.search(chr(n))) != forges(chr(n))]
    assert wrong == []


@given(st.text(st.characters()))
def test_printable_text_has_no_unsafe_characters(text: str) -> None:
    assert not any(forges(char) for char in printable(text))


@given(st.text())
def test_json_made_printable_decodes_to_the_same_value(text: str) -> None:
    assert msgspec.json.decode(printable(msgspec.json.encode(text).decode())) == text


@pytest.mark.parametrize("hours", [-12, 0, 1, 14])
def test_a_date_in_any_time_zone_becomes_the_same_utc_date(hours: int) -> None:
    moment = datetime(2027, 3, 11, 20, tzinfo=UTC)
    assert utc(moment.astimezone(timezone(timedelta(hours=hours)))).isoformat() == "2027-03-11T20:00:00+00:00"


@pytest.mark.parametrize(
    "date",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_a_date_outside_the_years_of_utc_is_refused(date: datetime) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        utc(date)


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_milliseconds_and_the_time_they_stand_for_are_one(count: int) -> None:
    assert milliseconds(time_of(count)) == count
    assert time_of(count).tzinfo is UTC


def event_with(available: int, held: int, elsewhere: int = 0) -> Event:
    sold = 100 - available - held
    return Event("e", "E", datetime(2027, 3, 11, tzinfo=UTC), 100, available, held, sold, 7, elsewhere)


@pytest.mark.parametrize(("available", "held", "quantity"), [(100, 0, 1), (5, 3, 5), (1, 99, 1)])
def test_selling_moves_tickets_and_raises_the_version_by_one(available: int, held: int, quantity: int) -> None:
    event = event_with(available, held)
    event.shift(available=-quantity, sold=quantity)
    assert (event.available, event.held, event.version) == (available - quantity, held, 8)
    assert event.sold + event.held + event.available == event.capacity


@pytest.mark.parametrize(
    ("available", "held", "shift"),
    [
        pytest.param(0, 0, {"available": -1, "sold": 1}, id="sell what is not available"),
        pytest.param(5, 0, {"available": -6, "sold": 6}, id="sell more than is available"),
        pytest.param(5, 3, {"available": -6, "held": 6}, id="hold more than is available"),
        pytest.param(5, 3, {"available": 4, "held": -4}, id="release more than is held"),
        pytest.param(5, 3, {"held": -4, "sold": 4}, id="confirm more than is held"),
        pytest.param(5, 3, {"available": 83, "sold": -83}, id="cancel what was sold elsewhere"),
        pytest.param(5, 3, {"available": -1}, id="lose a ticket"),
        pytest.param(5, 3, {"sold": 1}, id="make a ticket"),
    ],
)
def test_tickets_that_are_not_there_cannot_be_moved(available: int, held: int, shift: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        event_with(available, held, elsewhere=10).shift(**shift)


def test_a_line_is_counted_apart_from_the_tickets() -> None:
    event = event_with(5, 3)
    event.shift(waiting=1)
    assert (event.available, event.held, event.waiting, event.version) == (5, 3, 1, 8)
    event.shift(available=-2, held=2, waiting=-1)
    assert (event.available, event.held, event.waiting, event.version) == (3, 5, 0, 9)
    with pytest.raises(AssertionError):
        event.shift(waiting=-1)


CONFIRM, RELEASE, EXPIRE = Change("confirm", 9, 2, 5), Change("release", 9, 2, 5), Change("expire", 9, 2, 5)
OFFER, LEAVE = Change("offer", 9, 2, 7, (), 60_007), Change("leave", 9, 2, 7)
EXTEND = Change("extend", 9, 2, 5, (), 99)
FIRST, SECOND = Change("cancel", 9, 3, 5, ["t"]), Change("cancel", 9, 4, 5, ["u"])
REISSUE, AGAIN = Change("reissue", 9, 4, 5, ["u", "v"]), Change("reissue", 9, 5, 5, ["v", "w"])
THIRD = Change("cancel", 9, 6, 5, ["w"])


@pytest.mark.parametrize(
    ("seconds", "changes", "state"),
    [
        (None, [], "confirmed"),
        (60, [], "held"),
        (60, [CONFIRM], "confirmed"),
        (60, [RELEASE], "released"),
        (60, [EXPIRE], "expired"),
        (None, [FIRST], "confirmed"),
        (None, [FIRST, SECOND], "cancelled"),
        (60, [OFFER], "held"),
        (60, [LEAVE], "released"),
        (60, [OFFER, EXTEND, CONFIRM], "confirmed"),
        (60, [OFFER, EXPIRE], "expired"),
        (60, [CONFIRM, FIRST], "confirmed"),
        (60, [CONFIRM, SECOND, FIRST], "cancelled"),
        (60, [EXTEND], "held"),
        (60, [EXTEND, EXPIRE], "expired"),
        (60, [EXPIRE, CONFIRM], "confirmed"),
        (60, [EXTEND, CONFIRM, FIRST], "confirmed"),
        (None, [REISSUE, AGAIN], "confirmed"),
        (None, [FIRST, REISSUE, AGAIN], "confirmed"),
        (None, [FIRST, REISSUE, AGAIN, THIRD], "cancelled"),
    ],
)
def test_a_booking_is_in_the_state_that_its_changes_left(
    seconds: int | None, changes: list[Change], state: str
) -> None:
    booking = Booking("b", "e", 2, "held", [], 9, 1, 5, seconds, changes=changes or None)
    assert booking.state_after(changes) == state


@pytest.mark.parametrize(
    ("seconds", "state", "changes", "waited", "since"),
    [
        (None, "confirmed", [], False, None),
        (None, "cancelled", [FIRST, SECOND], False, None),
        (60, "held", [], False, 5),
        (60, "held", [EXTEND], False, 5),
        (60, "released", [RELEASE], False, 5),
        (60, "waiting", [], True, None),
        (60, "released", [LEAVE], True, None),
        (60, "held", [OFFER], True, 7),
        (60, "confirmed", [OFFER, EXTEND, CONFIRM], True, 7),
    ],
)
def test_a_booking_is_held_when_it_is_made_or_from_its_offer_on(
    seconds: int | None, state: BookingState, changes: list[Change], waited: bool, since: int | None
) -> None:
    booking = Booking("b", "e", 2, state, [], 9, 1, 5, seconds, changes=changes or None)
    assert (booking.waited, booking.held_since) == (waited, since)
    assert booking.first_expires == (None if since is None else since + 60_000)
    assert booking.state_after([]) == ("waiting" if waited else "held" if seconds else "confirmed")


def test_all_tickets_of_all_cancels_are_cancelled() -> None:
    booking = Booking("b", "e", 2, "confirmed", ["t", "u"], 9, 1, 5)
    assert booking.cancelled() == set()
    booking.changes = [FIRST, SECOND]
    assert booking.cancelled() == {"t", "u"}


def test_a_booking_knows_the_tickets_that_it_had() -> None:
    booking = Booking("b", "e", 2, "confirmed", ["t", "w"], 9, 1, 5, changes=[REISSUE, AGAIN])
    assert booking.replaced() == {"u": "v", "v": "w"}
    assert [ticket for ticket in "stuvwx" if booking.had(ticket)] == ["t", "u", "v", "w"]


@pytest.mark.parametrize(
    ("state", "changes", "owned"),
    [
        ("waiting", [], 2),
        ("held", [], 2),
        ("held", [OFFER], 2),
        ("held", [EXTEND], 2),
        ("confirmed", [], 2),
        ("confirmed", [FIRST], 1),
        ("confirmed", [REISSUE], 2),
        ("confirmed", [REISSUE, AGAIN, THIRD], 1),
        ("cancelled", [FIRST, SECOND], 0),
        ("released", [RELEASE], 0),
        ("released", [LEAVE], 0),
        ("expired", [EXPIRE], 0),
    ],
)
def test_a_buyer_owns_what_is_waited_for_held_or_sold(state: BookingState, changes: list[Change], owned: int) -> None:
    assert Booking("b", "e", 2, state, [], 9, 1, 5, changes=changes or None).owned() == owned


@pytest.mark.parametrize(
    ("history", "at"),
    [("", None), ("redeem", 1), ("redeem annul", None), ("redeem annul redeem", 3)],
)
def test_a_ticket_is_redeemed_unless_that_was_annulled(history: str, at: int | None) -> None:
    rows = [Redemption("b", "t", number, what, number) for number, what in enumerate(history.split(), 1)]  # type: ignore[arg-type]
    assert redeemed_at(rows) == at


@pytest.mark.parametrize(
    ("opens", "closes", "paused", "on_sale"),
    [
        (None, None, False, True),
        (None, None, True, False),
        (5, None, False, True),
        (6, None, False, False),
        (None, 6, False, True),
        (None, 5, False, False),
        (5, 6, False, True),
        (5, 6, True, False),
    ],
)
def test_an_event_is_on_sale_from_opens_and_before_closes(
    opens: int | None, closes: int | None, paused: bool, on_sale: bool
) -> None:
    event = event_with(5, 0)
    event.opens, event.closes, event.paused = opens, closes, paused
    assert event.is_on_sale(5) == on_sale


IDS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
TICKETS = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)
T, U = "0123456789ab", "ba9876543210"


@pytest.mark.parametrize(
    ("id_", "booking", "ticket"),
    [
        (f"b.{T}", "b", T),
        # Points may be in the id of a booking, anywhere, and it may look like that of a ticket.
        (f"a.b.{T}", "a.b", T),
        (f"a.{T}.{U}", f"a.{T}", U),
        (f"..{T}", ".", T),
        (f"b..{T}", "b.", T),
        # None of these can be a ticket's.
        ("", "", ""),
        ("b", "", ""),
        ("b.", "", ""),
        (T, "", ""),
        (f".{T}", "", ""),
        (f"b.{T}0", "", ""),
        (f"b.{T[1:]}", "", ""),
        (f"b.{T}.", "", ""),
    ],
)
def test_an_id_is_split_into_its_booking_and_ticket(id_: str, booking: str, ticket: str) -> None:
    assert ticket_parts(id_) == (booking, ticket)


@given(IDS, TICKETS)
def test_the_id_of_a_ticket_leads_back_to_its_booking(booking: str, ticket: str) -> None:
    id_ = msgspec.convert(ticket_id(msgspec.convert(booking, Id), ticket), TicketId)
    assert id_.startswith(f"{booking}.")
    assert ticket_parts(id_) == (booking, ticket)


@given(IDS, TICKETS, IDS, TICKETS)
def test_no_two_tickets_have_the_same_id(booking: str, ticket: str, other: str, others_ticket: str) -> None:
    same = (booking, ticket) == (other, others_ticket)
    assert (ticket_id(booking, ticket) == ticket_id(other, others_ticket)) == same


def test_a_ticket_that_is_minted_cannot_be_guessed() -> None:
    # Of 2**48, so many are the same twice once in 400,000 runs; each place takes each digit, or misses it never.
    tickets = [new_ticket() for _ in range(10_000)]
    assert len(set(tickets)) == len(tickets)
    places = list(zip(*tickets, strict=True))
    assert [set(place) for place in places] == [set("0123456789abcdef")] * TICKET_CHARS
