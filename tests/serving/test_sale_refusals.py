"""Bad input of the commands around a sale: each gets its code, changes nothing, and the connection goes on."""

from typing import Any

import pytest

from tests.daemon import Connection, Daemon, until

DATE = "2027-03-11T20:00:00Z"
# Each as words, with {} for the ticket of the booking "sold".
BAD = [
    (f"create Jazz {DATE} 5 --opens 2027-01-01T10:00:00", "bad_request", "opens"),
    (f"create Jazz {DATE} 5 --closes 2027-01-01", "bad_request", "closes"),
    (f"create Jazz {DATE} 5 --opens {DATE} --closes {DATE}", "bad_request", "closes must be later"),
    (f"create Jazz {DATE} 5 --opens {DATE} --closes 2027-03-11T19:00:00Z", "bad_request", "closes must be later"),
    (f"create Jazz {DATE} 5 --per-buyer 0", "bad_request", "per_buyer"),
    (f"create Jazz {DATE} 5 --per-buyer 1001", "bad_request", "per_buyer"),
    (f"create ' ' {DATE} 5", "bad_request", "blank"),
    (f"create 'Jazz ' {DATE} 5", "bad_request", "blank"),
    (f'{{"cmd":"create","name":"\\u00a0Jazz","date":"{DATE}","capacity":5}}', "bad_request", "blank"),
    ("amend open --name ' Jazz'", "bad_request", "blank"),
    ("amend open --opens 2027-01-01T10:00:00", "bad_request", "opens"),
    (f"amend open --opens {DATE} --closes {DATE}", "bad_request", "closes must be later"),
    # The other one is that of the event.
    ("amend closing --opens 2100-01-01T10:00:00Z", "bad_request", "closes must be later"),
    ("amend open --per-buyer 0", "bad_request", "per_buyer"),
    ('{"cmd":"amend","event":"open","paused":null}', "bad_request", "paused"),
    ('{"cmd":"amend","event":"open","paused":"yes"}', "bad_request", "paused"),
    ("amend open", "bad_request", "nothing to change"),
    ('{"cmd":"book","event":"open","quantity":1,"buyer":""}', "bad_request", "buyer"),
    ('{"cmd":"book","event":"open","quantity":1,"buyer":"a\\nb"}', "bad_request", "buyer"),
    ('{"cmd":"hold","event":"open","quantity":1,"buyer":"\\u202eann"}', "bad_request", "buyer"),
    ("book open 1 --buyer " + "x" * 201, "bad_request", "buyer"),
    ("book open 1 --buyer " + "é" * 101, "bad_request", "buyer"),
    ('{"cmd":"bookings","buyer":"a\\u0000b"}', "bad_request", "buyer"),
    ("bookings --event no/id", "bad_request", "event"),
    ("book limited 1", "bad_request", "buyer"),
    ("book limited 3 --buyer ann", "buyer_limit", "at most 2"),
    ("book closing 1 --booking b", "not_on_sale", "closed"),
    ("extend nothing 5", "booking_not_found", "nothing"),
    ("extend held 0", "bad_request", "seconds"),
    ("extend held 86401", "bad_request", "seconds"),
    ("extend sold 5", "already_confirmed", "sold"),
    ("extend released 5", "already_released", "released"),
    ("extend expired 5", "hold_expired", "expired"),
    ("confirm expired", "hold_expired", "expired"),
    ('{"cmd":"confirm","booking":"expired","late":1}', "bad_request", "late"),
    ("confirm nothing --late", "booking_not_found", "nothing"),
    ("annul {}", "not_redeemed", "never redeemed"),
    ("annul {} --event other", "wrong_event", "event open"),
    ("annul nothing", "ticket_not_found", "nothing"),
    ("annul sold", "ticket_not_found", "sold"),
    ('{"cmd":"annul","ticket":"x","reason":"a\\u001bb"}', "bad_request", "reason"),
    ("redeem {} --event other", "wrong_event", "event open"),
    ("redeem {} --scan a/b", "bad_request", "scan"),
    ("redeem held", "bad_request", "held"),
    ("redeem nothing", "ticket_not_found", "nothing"),
    ("reissue nothing", "ticket_not_found", "nothing"),
    ("reissue sold", "ticket_not_found", "sold"),
    ("reissue gone", "already_cancelled", "cancelled"),
    ("reissue used", "already_redeemed", "redeemed"),
    ("delete nothing", "event_not_found", "nothing"),
    ("delete deleted", "event_not_found", "deleted"),
    ("delete open", "event_in_use", "--paused"),
    ("delete ran-out", "event_in_use", "--paused"),
]


@pytest.fixture(scope="module")
def tickets(sale: Daemon) -> dict[str, str]:
    """What the bad input is about; returns tickets by what they are."""
    with sale.connect() as connection:

        def done(line: str) -> dict[str, Any]:
            reply = connection.ask(line)
            assert reply["reply"] != "error", reply
            return reply

        for event in (
            "open",
            "other",
            "deleted",
            "ran-out",
            "limited --per-buyer 2",
            "closing --closes 2001-01-01T00:00:00Z",
        ):
            done(f"create Jazz {DATE} 100 --id {event}")
        done("delete deleted")
        valid, gone, used = done("book open 3 --booking sold")["tickets"]
        done(f"cancel sold --tickets {gone}")
        done(f"redeem {used}")
        done("hold open 1 --booking held")
        done("hold open 1 --booking released")
        done("release released")
        done("hold ran-out 1 --seconds 1 --booking expired")
        until(lambda: connection.ask("show expired")["state"] == "expired")
        return {"{}": valid, "gone": gone, "used": used}


def everything(connection: Connection) -> list[dict[str, Any]]:
    return [*connection.events(), *connection.ask("bookings")["bookings"]]


@pytest.mark.parametrize(("line", "code", "named"), BAD, ids=[line[:40] for line, *_ in BAD])
def test_bad_input_gets_its_code_and_changes_nothing(
    sale: Daemon, tickets: dict[str, str], line: str, code: str, named: str
) -> None:
    command, _, rest = line.partition(" ")
    for what, ticket in tickets.items():
        if rest.split(" ")[:1] == [what]:
            line = f"{command} {rest.replace(what, ticket, 1)}"
    with sale.connect() as connection:
        before = everything(connection)
        refusal = connection.ask(line)
        assert (refusal["reply"], refusal["code"]) == ("error", code), refusal
        assert named in refusal["message"]
        assert refusal["message"].isprintable()
        assert everything(connection) == before
        assert connection.ask("book other 1")["state"] == "confirmed"
