"""What must not be done: each gets its code from a real daemon, changes nothing, and the connection goes on."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Connection, Daemon, running, write_events

WHEN = "2027-03-11T20:00:00Z"
MADE = [
    f"create Jazz {WHEN} 20 --id jazz",
    f"create Rock {WHEN} 20 --id rock",
    f"create Soon {WHEN} 20 --id soon --opens 2100-01-01T00:00:00Z",
    f"create Over {WHEN} 20 --id over --closes 2000-01-01T00:00:00Z",
    f"create Paused {WHEN} 20 --id paused --paused",
    f"create Limited {WHEN} 20 --id limited --per-buyer 2",
    f"create Brief {WHEN} 20 --id brief",
    f"create Gone {WHEN} 20 --id gone",
    "delete gone",
    "book jazz 3 --booking b --buyer anna",
    "book limited 1 --booking l --buyer anna",
    "hold limited 1 --booking m --buyer anna --seconds 3600",
    "hold jazz 1 --booking held --seconds 3600",
    "hold jazz 1 --booking released",
    "release released",
    "hold jazz 1 --booking confirmed",
    "confirm confirmed",
    "book jazz 1 --booking cancelled",
    "cancel cancelled",
    "hold brief 1 --booking expired --seconds 1",
]


class Sale:
    """A daemon in which all of this has happened, and the ids of the tickets of the booking ``b``."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        with daemon.connect() as connection, daemon.connect() as watching:
            for line in MADE:
                reply = connection.ask(line)
                assert reply["reply"] != "error", (line, reply)
            self.tickets: list[str] = connection.ask("show b")["tickets"]
            _, old, used = self.tickets
            self.new = connection.ask(f"reissue {old}")["id"]
            connection.ask(f"redeem {used} --scan s")
            state = watching.ask("watch brief")
            while state.get("held") != 0:
                state = watching.read()

    def line(self, template: str) -> str:
        """Return a line with the tickets in it that it names."""
        valid, old, used = self.tickets
        return template.format(valid=valid, old=old, used=used, new=self.new, never="b.000000000000")


@pytest.fixture(scope="module")
def sale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sale]:
    folder = tmp_path_factory.mktemp("sale")
    write_events(folder, 100)
    with running(folder) as daemon:
        yield Sale(daemon)


def everything(connection: Connection) -> list[dict[str, Any]]:
    return [connection.ask("list"), connection.ask("bookings")]


@pytest.mark.parametrize(
    ("template", "code"),
    [
        # The sale.
        ("book soon 1", "not_on_sale"),
        ("hold soon 1", "not_on_sale"),
        ("book soon 1 --booking x", "not_on_sale"),
        ("book over 1", "not_on_sale"),
        ("hold paused 1 --booking x", "not_on_sale"),
        ("amend jazz --opens 2027-03-11T20:00:00", "bad_request"),
        ("amend jazz --closes 2027-03-11", "bad_request"),
        ("amend jazz --opens tomorrow", "bad_request"),
        (f"amend soon --closes {WHEN}", "bad_request"),
        (f"create X {WHEN} 5 --opens {WHEN} --closes {WHEN}", "bad_request"),
        (f"create X {WHEN} 5 --opens 9999-12-31T23:59:59.9999Z", "bad_request"),
        (f"create X {WHEN} 5 --per-buyer 0", "bad_request"),
        ("amend jazz --per-buyer 1001", "bad_request"),
        ("amend jazz", "bad_request"),
        (f"create ' ' {WHEN} 5", "bad_request"),
        (f"create 'X ' {WHEN} 5", "bad_request"),
        ("amend jazz --name ' X'", "bad_request"),
        # Buyers.
        ("book limited 1", "bad_request"),
        ("hold limited 1 --booking x", "bad_request"),
        ("book limited 1 --buyer anna", "buyer_limit"),
        ("hold limited 1 --buyer anna", "buyer_limit"),
        ("book limited 3 --buyer ben", "buyer_limit"),
        ('{{"cmd":"book","event":"jazz","quantity":1,"buyer":"a\\nb"}}', "bad_request"),
        ('{{"cmd":"book","event":"jazz","quantity":1,"buyer":"a\\u202eb"}}', "bad_request"),
        ('{{"cmd":"book","event":"jazz","quantity":1,"buyer":""}}', "bad_request"),
        ("book jazz 1 --buyer " + "x" * 201, "bad_request"),
        ("bookings --buyer " + "x" * 201, "bad_request"),
        ("book jazz 3 --booking b --buyer ben", "booking_conflict"),
        ("book jazz 3 --booking b", "booking_conflict"),
        # Holds.
        ("extend nope 60", "booking_not_found"),
        ("extend b 60", "already_confirmed"),
        ("extend confirmed 60", "already_confirmed"),
        ("extend released 60", "already_released"),
        ("extend expired 60", "hold_expired"),
        ("extend cancelled 60", "already_cancelled"),
        ("extend held 0", "bad_request"),
        ("extend held 86401", "bad_request"),
        ("confirm released --late", "already_released"),
        ("confirm cancelled --late", "already_cancelled"),
        ("confirm b --late", "already_confirmed"),
        ("confirm nope --late", "booking_not_found"),
        ("confirm held --late=maybe", "bad_request"),
        # Tickets.
        ("reissue {used}", "already_redeemed"),
        ("reissue {never}", "ticket_not_found"),
        ("reissue b", "ticket_not_found"),
        ("cancel b --tickets {old}", "already_reissued"),
        ("redeem {old}", "already_reissued"),
        ("redeem {old} --event jazz --scan t", "already_reissued"),
        # The door.
        ("redeem {valid} --event rock", "wrong_event"),
        ("redeem {used} --event rock --scan s", "wrong_event"),
        ("redeem b --event nope", "wrong_event"),
        ("redeem {used} --scan t", "already_redeemed"),
        ("redeem {never}", "ticket_not_found"),
        ("redeem held", "bad_request"),
        ("redeem cancelled", "already_cancelled"),
        ("redeem expired", "hold_expired"),
        ("annul {valid}", "not_redeemed"),
        ("annul {old}", "not_redeemed"),
        ("annul {used} --event rock", "wrong_event"),
        ("annul {never}", "ticket_not_found"),
        ("annul b", "ticket_not_found"),
        ("annul {used} --reason ''", "bad_request"),
        # Events.
        ("delete nope", "event_not_found"),
        ("delete gone", "event_not_found"),
        ("delete jazz", "event_in_use"),
        ("delete brief", "event_in_use"),
        ("book gone 1", "event_not_found"),
    ],
)
def test_bad_requests_get_their_code_and_change_nothing(sale: Sale, template: str, code: str) -> None:
    with sale.daemon.connect() as connection:
        before = everything(connection)
        refusal = connection.ask(sale.line(template))
        assert (refusal["reply"], refusal.get("code")) == ("error", code)
        assert refusal["message"].isprintable()
        assert everything(connection) == before
        assert connection.ask("ping") == {"reply": "pong"}


@pytest.mark.parametrize(
    "template",
    [
        "book jazz 3 --booking b --buyer anna",
        "redeem {used} --scan s",
        "redeem {used} --event jazz --scan s",
        "reissue {old}",
        "extend held 1",
        "confirm confirmed --late",
        "amend paused --paused --per-buyer none",
        f"create Limited {WHEN} 20 --id limited --per-buyer 2",
    ],
)
def test_what_was_done_is_replayed_and_changes_nothing(sale: Sale, template: str) -> None:
    with sale.daemon.connect() as connection:
        before = everything(connection)
        assert connection.ask(sale.line(template))["replayed"] is True
        assert everything(connection) == before


def test_a_sale_that_will_open_says_when(sale: Sale) -> None:
    with sale.daemon.connect() as connection:
        for line in ("book soon 1", "hold soon 1 --booking x"):
            assert connection.ask(line)["opens"] == "2100-01-01T00:00:00Z"
        assert "opens" not in connection.ask("book over 1")
        assert connection.ask("book limited 1 --buyer anna")["left"] == 0


def test_the_original_booking_is_replayed_with_its_old_tickets(sale: Sale) -> None:
    with sale.daemon.connect() as connection:
        assert connection.ask("book jazz 3 --booking b --buyer anna")["tickets"] == sale.tickets
        valid, _, used = sale.tickets
        assert connection.ask("show b")["tickets"] == [valid, sale.new, used]
