"""Holds that are extended, and holds that are confirmed after they ran out. On both ledgers."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.daemon import Connection, Daemon, until
from tests.serving.conftest import HOLD_SECONDS_TOTAL_MAX

DATE = "2027-03-11T20:00:00Z"


def create(connection: Connection, event: str, capacity: int = 10) -> None:
    assert connection.ask(f"create Jazz {DATE} {capacity} --id {event}")["reply"] == "event"


def run_out(connection: Connection, booking: str) -> None:
    """Wait until a hold has run out."""
    until(lambda: connection.ask(f"show {booking}")["state"] == "expired")


def time(reply: dict[str, Any], field: str) -> datetime:
    return datetime.fromisoformat(reply[field])


def test_an_extension_ends_at_a_ceiling_from_the_first_hold(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "extend")
        held = connection.ask("hold extend 2 --seconds 5 --booking extend-1")
        longer = connection.ask("extend extend-1 60")
        assert time(longer, "expires") >= time(held, "booked_at") + timedelta(seconds=60)
        assert (longer["state"], longer["version"], longer["available"]) == ("held", 2, 8)
        # No shorter, and no longer than the ceiling.
        assert connection.ask("extend extend-1 1") == longer | {"replayed": True}
        longest = connection.ask("extend extend-1 86400")
        assert time(longest, "expires") == time(held, "booked_at") + timedelta(seconds=HOLD_SECONDS_TOTAL_MAX)
        for seconds in (HOLD_SECONDS_TOTAL_MAX - 1, HOLD_SECONDS_TOTAL_MAX, 86400):
            assert connection.ask(f"extend extend-1 {seconds}") == longest | {"replayed": True}
        shown = connection.ask("show extend-1")
        assert [(change["what"], change["expires"]) for change in shown["changes"]] == [
            ("extend", longer["expires"]),
            ("extend", longest["expires"]),
        ]
        assert connection.ask("hold extend 2 --seconds 5 --booking extend-1") == held | {"replayed": True}
        assert connection.ask("confirm extend-1")["state"] == "confirmed"


def test_an_extended_hold_outlives_its_first_end(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "outlive")
        for booking in ("outlive-1", "outlive-2"):
            connection.ask(f"hold outlive 1 --seconds 1 --booking {booking}")
        connection.ask("extend outlive-1 60")
        run_out(connection, "outlive-2")
        assert connection.ask("show outlive-1")["state"] == "held"
        assert connection.ask("show outlive")["held"] == 1


@pytest.mark.parametrize("state", ["confirmed", "released", "expired"])
def test_what_is_no_hold_any_more_is_not_extended(sale: Daemon, state: str) -> None:
    codes = {"confirmed": "already_confirmed", "released": "already_released", "expired": "hold_expired"}
    booking = f"{state}-1"
    with sale.connect() as connection:
        create(connection, state)
        connection.ask(f"hold {state} 1 --seconds {1 if state == 'expired' else 60} --booking {booking}")
        if state == "expired":
            run_out(connection, booking)
        else:
            connection.ask({"confirmed": "confirm ", "released": "release "}[state] + booking)
        before = connection.ask(f"show {booking}")
        assert connection.ask(f"extend {booking} 60")["code"] == codes[state]
        assert connection.ask(f"show {booking}") == before


def test_a_late_confirmation_takes_what_is_there_and_is_replayed(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "late")
        for booking in ("late-1", "late-2"):
            connection.ask(f"hold late 5 --seconds 1 --booking {booking}")
            run_out(connection, booking)
        assert connection.ask("confirm late-1")["code"] == "hold_expired"
        late = connection.ask("confirm late-1 --late")
        assert (late["state"], len(late["tickets"]), late["available"]) == ("confirmed", 5, 5)
        for again in ("confirm late-1", "confirm late-1 --late"):
            assert connection.ask(again) == late | {"replayed": True}
        # Somebody else has a part of what the other one held.
        connection.ask("book late 1")
        refusal = connection.ask("confirm late-2 --late")
        assert (refusal["code"], refusal["available"]) == ("hold_expired", 4)
        shown = connection.ask("show late")
        assert (shown["sold"], shown["held"], shown["available"]) == (6, 0, 4)
        changes = connection.ask("show late-1")["changes"]
        assert [change["what"] for change in changes] == ["expire", "confirm"]


def test_late_confirmations_of_a_crowd_never_oversell(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "rush")
        for number in range(3):
            connection.ask(f"hold rush 10 --seconds 1 --booking rush-{number}")
            run_out(connection, f"rush-{number}")
        connection.send(b"".join(b"confirm rush-%d --late\n" % number for number in range(3)))
        replies = [connection.read() for _ in range(3)]
        assert [reply.get("code") for reply in replies] == [None, "hold_expired", "hold_expired"]
        shown = connection.ask("show rush")
        assert (shown["sold"], shown["held"], shown["available"]) == (10, 0, 0)


def test_late_changes_nothing_for_a_hold_that_still_runs(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "early")
        connection.ask("hold early 2 --booking early-1")
        assert connection.ask("confirm early-1 --late")["state"] == "confirmed"
        connection.ask("hold early 2 --booking early-2")
        connection.ask("release early-2")
        assert connection.ask("confirm early-2 --late")["code"] == "already_released"
