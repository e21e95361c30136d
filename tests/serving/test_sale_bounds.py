"""What a booking went through is kept and shown, and does not grow without end. On both ledgers."""

import msgspec

from tests.daemon import Daemon
from ticketd.model import TICKETS_PER_BOOKING_MAX
from ticketd.rules.showing import ANNULMENTS_MAX, EXTENSIONS_MAX
from ticketd.wire.requests import REPLY_BYTES_MAX

DATE = "2027-03-11T20:00:00Z"


def test_a_ticket_is_let_in_and_out_a_bounded_number_of_times(sale: Daemon) -> None:
    with sale.connect() as connection:
        connection.ask(f"create Jazz {DATE} 10 --id turnstile")
        [ticket] = connection.ask("book turnstile 1")["tickets"]
        for _ in range(ANNULMENTS_MAX):
            assert connection.ask(f"redeem {ticket}")["state"] == "redeemed"
            assert connection.ask(f"annul {ticket}")["state"] == "valid"
        last = connection.ask(f"redeem {ticket}")
        assert connection.ask(f"annul {ticket}")["code"] == "bad_request"
        assert connection.ask(f"show {ticket}") == last
        assert len(last["history"]) == 2 * ANNULMENTS_MAX + 1


def test_a_booking_is_reissued_and_extended_a_bounded_number_of_times(sale: Daemon) -> None:
    with sale.connect() as connection:
        connection.ask(f"create Jazz {DATE} 1001 --id again")
        assert connection.ask("hold again 1 --seconds 5 --booking a-held")["state"] == "held"
        extended = 0
        # In the same millisecond nothing is left to extend.
        while extended < EXTENSIONS_MAX:
            extended += not connection.ask("extend a-held 20").get("replayed")
        assert connection.ask("extend a-held 30")["code"] == "bad_request"
        assert connection.ask("confirm a-held")["state"] == "confirmed"
        # All tickets of the largest booking once, and no more.
        tickets = connection.ask(f"book again {TICKETS_PER_BOOKING_MAX} --booking b-booked")["tickets"]
        reissued = [connection.ask(f"reissue {ticket}")["id"] for ticket in tickets]
        assert len(set(reissued)) == TICKETS_PER_BOOKING_MAX
        assert connection.ask(f"reissue {reissued[0]}")["code"] == "bad_request"
        # A page has what fits into a reply.
        page = connection.ask("bookings --after a")
        seen = page["bookings"]
        while page.get("more"):
            page = connection.ask(f"bookings --after {page['last']}")
            seen += page["bookings"]
        assert [booking["id"] for booking in seen[:2]] == ["a-held", "b-booked"]
        assert len(msgspec.json.encode(seen[1])) < REPLY_BYTES_MAX
