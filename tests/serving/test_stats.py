"""What ``stats`` tells of each event, and what the log says of refusals. On both ledgers."""

import re
from typing import Any

from tests.daemon import Connection, Daemon, until

DATE = "2027-03-11T20:00:00Z"
CROWD = 2_000


def create(connection: Connection, event: str, options: str = "", capacity: int = 100) -> None:
    assert connection.ask(f"create Jazz {DATE} {capacity} --id {event} {options}")["reply"] == "event"


def busiest(connection: Connection, event: str) -> dict[str, Any]:
    """Return what stats tells of an event, once it tells of it. Which events it shows is renewed every second."""
    found: list[dict[str, Any]] = []

    def told() -> bool:
        found[:] = [each for each in connection.ask("stats")["busiest"] if each["id"] == event]
        return bool(found)

    until(told)
    return found[0]


def test_stats_tell_what_was_sold_held_refused_and_expired(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "busy", "--per-buyer 50")
        connection.ask("book busy 7 --buyer ann --booking busy-1")
        connection.ask("book busy 7 --buyer ann --booking busy-1")
        connection.ask("hold busy 3 --buyer ann --booking busy-2")
        connection.ask("confirm busy-2")
        connection.ask("hold busy 2 --seconds 1 --buyer ann --booking busy-3")
        until(lambda: connection.ask("show busy-3")["state"] == "expired")
        connection.ask("confirm busy-3 --late")
        connection.ask("book busy 50 --buyer ann")
        connection.ask("book busy 101 --buyer ann")
        connection.ask("book busy 101 --buyer ann --booking busy-4")
        connection.ask("hold busy 1")
        connection.ask("amend busy --paused")
        connection.ask("book busy 1")
        assert busiest(connection, "busy") == {
            "id": "busy",
            "sold": 12,
            "held": 5,
            "expired": 2,
            "refused": {"buyer_limit": 1, "sold_out": 2, "bad_request": 1, "not_on_sale": 1},
        }


def test_refusals_of_holds_and_tickets_count_for_their_event(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "door")
        [ticket] = connection.ask("book door 1 --booking door-1")["tickets"]
        connection.ask(f"redeem {ticket} --event door")
        connection.ask(f"redeem {ticket} --event door")
        assert busiest(connection, "door")["refused"] == {"already_redeemed": 1}


def test_the_log_names_whose_turn_in_line_came(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "turn", capacity=2)
        connection.ask("book turn 2 --booking turn-1")
        connection.ask("wait turn 1 --booking turn-2 --seconds 60")
        connection.ask("wait turn 1 --booking turn-3 --buyer ann --seconds 60")
        # Whoever named no buyer cannot be counted.
        connection.ask("amend turn --per-buyer 1")
        connection.ask("cancel turn-1")
        assert connection.ask("show turn-3")["state"] == "held"
        assert connection.ask("show turn-2")["state"] == "released"
        sale.wait_line(r"evicted event=turn quantity=1 booking=turn-2 available=2 code=buyer_limit$")
        sale.wait_line(r"offered event=turn quantity=1 booking=turn-3 available=1 expires=20\S+Z$")
        assert busiest(connection, "turn") == {"id": "turn", "sold": 2, "held": 1}


def test_a_summary_counts_the_offers_of_a_stampede(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "many", capacity=1)
        connection.ask("book many 1")
        for number in range(CROWD // 10):
            connection.ask(f"wait many 1 --booking many-{number} --seconds 60")
        connection.ask(f"amend many --capacity {1 + CROWD // 10}")
        until(lambda: sum(map(int, re.findall(r"committed .* offered=(\d+)", "\n".join(sale.lines)))) == CROWD // 10)
        assert not [line for line in sale.lines if "offered event=many" in line]


def test_a_storm_of_refusals_is_a_line_for_each_code_and_second(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "storm", "--paused")
        sale.wait_line("created event=storm")
        began = len(sale.lines)

        def logged() -> list[int]:
            lines = " ".join(sale.lines[began:])
            return [int(requests) for requests in re.findall(r"refused code=not_on_sale requests=(\d+)", lines)]

        for booking in ("", " --booking storm-{}"):
            connection.send("".join(f"book storm 1{booking.format(n)}\n" for n in range(CROWD)).encode())
            assert {connection.read()["code"] for _ in range(CROWD)} == {"not_on_sale"}
        until(lambda: sum(logged()) == 2 * CROWD)
        # A second may have ended meanwhile, and perhaps a few.
        assert len(logged()) < 100
        assert not [line for line in sale.lines[began:] if "storm" in line]
