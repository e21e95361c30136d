"""What a booking went through is kept and shown, and does not grow without end. On both ledgers."""

from tests.daemon import Daemon
from ticketd.model import ANNULMENTS_MAX, EXTENSIONS_MAX, REISSUES_MAX

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
        connection.ask(f"create Jazz {DATE} 1000 --id again")
        held = connection.ask("hold again 1 --seconds 1 --booking a-held")
        assert held["state"] == "held"
        extended = 0
        while (reply := connection.ask("extend a-held 60"))["reply"] == "booking":
            extended += not reply.get("replayed")
        assert (reply["code"], extended) == ("bad_request", EXTENSIONS_MAX)
        assert connection.ask("confirm a-held")["state"] == "confirmed"
        # All of its tickets, once each, and each of them again: only the first are done.
        tickets = connection.ask("book again 999 --booking b-booked")["tickets"]
        reissued = [connection.ask(f"reissue {ticket}")["id"] for ticket in tickets]
        tickets = reissued
        assert connection.ask(f"reissue {tickets[0]}")["state"] == "valid"
        assert connection.ask(f"reissue {tickets[1]}")["code"] == "bad_request"
        assert REISSUES_MAX == 1_000
        # A page has what fits into a reply.
        after, seen = "a", []
        while after:
            connection.send(f"bookings --after {after}\n".encode())
            page = connection.read()
            seen += [booking["id"] for booking in page["bookings"]]
            after = page.get("last")
        assert seen[:2] == ["a-held", "b-booked"]
