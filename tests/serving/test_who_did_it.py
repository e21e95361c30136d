"""Who did what: in the log, and in what managers are shown. A real daemon, on a ledger of each kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, running, write_events
from tests.ledgers import STORAGES
from tests.secured import ROLES, plain, secret, write_access

TOKENS = {**dict.fromkeys(["shop", "box-office"], "seller"), **{name: name for name in ROLES}}


@pytest.fixture(scope="module", params=STORAGES)
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("named")
    write_events(folder, 1_000)
    flags = ["--access", write_access(folder / "access.json", TOKENS)]
    postgres = None
    if request.param == "postgres":
        postgres = request.getfixturevalue("postgres")
        flags += ["--ledger", postgres.new_database()]
    with running(folder, *flags) as daemon:
        yield daemon
    if postgres:
        postgres.give_back(flags[-1])


def ask(daemon: Daemon, name: str, *lines: str) -> list[dict[str, Any]]:
    """Send lines in the name of somebody, and return their replies."""
    with plain(daemon) as connection:
        connection.auth(name)
        return [connection.ask(line) for line in lines]


def names(reply: dict[str, Any]) -> list[str | None]:
    """Return who made a booking, and who made each change of it."""
    return [reply.get("by"), *(change.get("by") for change in reply.get("changes", []))]


def test_managers_see_who_did_each_change(daemon: Daemon) -> None:
    ask(daemon, "shop", "hold 1 2 --booking b", "extend b 600")
    [confirmed] = ask(daemon, "box-office", "confirm b")
    one, two = confirmed["tickets"]
    ask(daemon, "manager", f"reissue {one}")
    ask(daemon, "admin", f"cancel b --tickets {two}")
    expected = ["shop", "shop", "box-office", "manager", "admin"]
    for name in ("manager", "admin"):
        [shown, page] = ask(daemon, name, "show b", "bookings --limit 1")
        assert names(shown) == expected
        assert names(page["bookings"][0]) == expected
    for name in ("seller", "door"):
        [shown] = ask(daemon, name, "show b")
        assert names(shown) == [None] * 5
        assert shown["changes"]


def test_managers_see_who_let_a_ticket_in(daemon: Daemon) -> None:
    [booked] = ask(daemon, "shop", "book 1 2 --booking c")
    one, two = booked["tickets"]
    ask(daemon, "door", f"redeem {one}", f"annul {one} --reason mistake")
    ask(daemon, "manager", "redeem c")
    [first, second] = ask(daemon, "manager", f"show {one}", f"show {two}")
    assert [each["by"] for each in first["history"]] == ["door", "door", "manager"]
    assert first["by"] == second["by"] == "manager"
    [shown, page] = ask(daemon, "manager", "show c", "bookings --event 1")
    listed = next(booking for booking in page["bookings"] if booking["id"] == "c")
    assert shown["redeemed_by"] == listed["redeemed_by"] == ["manager", "manager"]
    [shown, scanned] = ask(daemon, "door", "show c", "redeem c --scan again")
    assert "redeemed_by" not in shown | scanned
    [first, second] = ask(daemon, "door", f"show {one}", f"show {two}")
    assert [each.get("by") for each in first["history"]] == [None] * 3
    assert "by" not in first | second
    # What was annulled was redeemed by nobody.
    [_, annulled] = ask(daemon, "manager", f"annul {two}", f"show {two}")
    assert "by" not in annulled
    assert [each["by"] for each in annulled["history"]] == ["manager", "manager"]


def test_replies_to_sellers_name_nobody(daemon: Daemon) -> None:
    replies = ask(daemon, "shop", "book 1 1 --booking d", "book 1 1 --booking d", "show d", "hold 1 1", "release d")
    assert "by" not in "".join(key for reply in replies for key in reply)
    # Whoever sends it again has not made it.
    ask(daemon, "box-office", "book 1 1 --booking d")
    [shown] = ask(daemon, "manager", "show d")
    assert shown["by"] == "shop"


def test_log_lines_have_the_name_and_never_the_secret(daemon: Daemon) -> None:
    ask(daemon, "box-office", "book 1 1 --booking logged")
    assert daemon.wait_line("booking=logged").endswith(" by=box-office")
    ask(daemon, "manager", "create Jazz 2027-03-11T20:00:00Z 5 --id jazz")
    assert daemon.wait_line("created event=jazz").endswith(" by=manager")
    assert not [line for line in daemon.lines if "-----" in line]


def test_in_one_pipeline_each_change_is_of_whoever_sent_it(daemon: Daemon) -> None:
    with plain(daemon) as connection:
        lines = [f"auth {secret('shop')}", "hold 1 1 --booking e", f"auth {secret('box-office')}", "confirm e"]
        connection.send("".join(line + "\n" for line in (*lines, f"auth {secret('manager')}", "show e")).encode())
        *_, shown = (connection.read() for _ in range(6))
    assert names(shown) == ["shop", "box-office"]


def test_without_tokens_nobody_has_a_name(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        connection.ask("hold 1 1 --booking b")
        connection.ask("confirm b")
        assert names(connection.ask("show b")) == [None, None]
        assert " by=" not in daemon.wait_line("confirmed .*booking=b")
