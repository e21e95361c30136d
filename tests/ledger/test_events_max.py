"""The catalogue is bounded, in both ledgers, whoever adds events. A real daemon."""

from pathlib import Path

import msgspec
import pytest

from tests.daemon import Connection, running, until, write_events

CREATE = "create Jazz 2027-03-11T20:00:00Z 9 --id {}"


def create(connection: Connection, *events: str) -> list[str]:
    """Create events by requests that are decided together, and return how each was answered."""
    connection.send("".join(CREATE.format(event) + "\n" for event in events).encode())
    replies = [connection.read() for _ in events]
    return [reply.get("code") or reply["id"] for reply in replies]


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of each kind, as the flag names it."""
    url: str = request.getfixturevalue("database") if request.param == "postgres" else str(tmp_path / "events.db")
    return url


def test_create_past_events_max_is_refused_and_replays_are_not(tmp_path: Path, ledger: str) -> None:
    flags = ("--ledger", ledger, "--events-max", "3")
    with running(tmp_path, *flags) as daemon, daemon.connect() as connection:
        full = "too_many_events"
        assert create(connection, "a", "b", "a", "c", "d", "b", "e") == ["a", "b", "a", "c", full, "b", full]
        refusal = connection.ask(CREATE.format("d"))
        assert refusal["code"] == full
        assert "--events-max" in refusal["message"]
        assert "retry_after" not in refusal
        assert connection.ask("book a 1")["state"] == "confirmed"
        assert connection.ask("stats")["events"] == 3
    with running(tmp_path, *flags[:2], "--events-max", "1") as daemon, daemon.connect() as connection:
        # What there is stays on sale.
        assert create(connection, "d", "c") == [full, "c"]
        assert [event["id"] for event in connection.ask("list")["events"]] == ["a", "b", "c"]


def test_events_json_with_too_many_events_is_told_and_kept(tmp_path: Path) -> None:
    write_events(tmp_path, 100, 200, 300)
    content = (tmp_path / "events.json").read_bytes()
    with running(tmp_path, "--events-max", "2") as daemon, daemon.connect() as connection:
        assert "--events-max" in daemon.wait_line("ERROR.*no room for event 3")
        assert connection.ask("book 1 1")["state"] == "confirmed"
        assert daemon.end() == 0
    assert (tmp_path / "events.json").read_bytes() == content
    with running(tmp_path, "--events-max", "3") as daemon, daemon.connect() as connection:
        assert connection.ask("show 3")["capacity"] == 300
        file = tmp_path / "events.json"
        until(lambda: msgspec.json.decode(file.read_bytes())["events"][0]["AvailableTickets"] == 99)
