"""Replies repeat the tags of their requests, whatever answers them; nobody else ever sees one. A real daemon."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon import Connection, Daemon, running, unasked, write_events
from tests.secured import Reached, plain, secret, write_access

TAG = "a tag of nobody else"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags")
    write_events(folder, 100, 100)
    return folder


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    with running(folder) as daemon:
        yield daemon


def tagged(tag: str | None, cmd: str, **fields: object) -> bytes:
    return msgspec.json.encode({"cmd": cmd, **({"tag": tag} if tag else {}), **fields})


def ask(connection: Connection, tag: str | None, cmd: str, **fields: object) -> dict[str, Any]:
    return connection.ask(tagged(tag, cmd, **fields))


def test_each_of_many_replies_has_the_tag_of_its_own_request(daemon: Daemon) -> None:
    # Some are answered from memory, some by commits, some by reads, and some are refused.
    asked: list[tuple[str | None, bytes, str]] = []
    for number in range(40):
        booking = f"many-{number}"
        lines: list[tuple[str, dict[str, object], str]] = [
            ("list", {}, "events"),
            ("book", {"event": "1", "quantity": 1, "booking": booking}, "booking"),
            ("show", {"id": booking}, "booking"),
            ("bookings", {"limit": 1}, "bookings"),
            ("show", {"id": "1"}, "event"),
            ("book", {"event": "1", "quantity": 1, "booking": booking, "buyer": "another"}, "booking_conflict"),
            ("show", {"id": "nobody"}, "not_found"),
            ("book", {"event": "1"}, "bad_request"),
            ("list", {"after": "nope"}, "event_not_found"),
            ("help", {"command": "ping"}, "help"),
            ("ready", {}, "ready"),
        ]
        for cmd, fields, kind in lines:
            tag = None if number % 3 == 1 else f"{number} {cmd} {len(asked)}"
            asked.append((tag, tagged(tag, cmd, **fields), kind))
        asked.append((None, b"ping", "pong"))
    with daemon.connect() as connection:
        connection.send(b"".join(line + b"\n" for _, line, _ in asked))
        for tag, line, kind in asked:
            reply = connection.read()
            assert (reply.get("tag"), reply.get("code", reply["reply"])) == (tag, kind), line


def test_a_replay_has_the_tag_of_its_own_request(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        booked = ask(connection, "first", "book", event="2", quantity=2, booking="again")
        second = ask(connection, "second", "book", event="2", quantity=2, booking="again")
        third = ask(connection, None, "book", event="2", quantity=2, booking="again")
        assert booked.pop("tag") == "first"
        assert second == {**booked, "replayed": True, "tag": "second"}
        assert third == {**booked, "replayed": True}


def test_a_tag_is_kept_nowhere(daemon: Daemon, folder: Path) -> None:
    with daemon.connect() as connection:
        ask(connection, TAG, "book", event="2", quantity=1, booking="kept", buyer="somebody")
        ask(connection, TAG, "book", event="2", quantity=1_000)
        for line in ("show kept", "bookings", "list"):
            assert TAG not in str(connection.ask(line))
    files = [file.read_bytes() for file in folder.iterdir() if file.is_file()]
    assert any(b"somebody" in data for data in files)
    assert not any(TAG.encode() in data for data in files)
    assert not any(TAG in line for line in daemon.lines)


def test_a_list_that_many_get_is_the_same_but_for_their_tags(daemon: Daemon) -> None:
    with daemon.connect() as connection, daemon.connect() as other:
        replies = [ask(each, tag, "list") for tag in ("a", None, "b") for each in (connection, other)]
    assert [reply.pop("tag", None) for reply in replies] == ["a", "a", None, None, "b", "b"]
    assert all(reply == replies[0] for reply in replies)


def test_each_line_of_a_watch_has_its_tag(daemon: Daemon) -> None:
    with daemon.connect() as watcher, daemon.connect() as plain_watcher, daemon.connect() as buyer:
        first = [ask(watcher, "w", "watch"), watcher.read()]
        assert [(event["id"], event["tag"]) for event in first] == [("1", "w"), ("2", "w")]
        plain_watcher.send(b"watch\n")
        assert [plain_watcher.read().get("tag") for _ in range(2)] == [None, None]
        booked = ask(buyer, "b", "book", event="2", quantity=1)
        change = watcher.read()
        assert (change["version"], change.pop("tag")) == (booked["version"], "w")
        assert plain_watcher.read() == change
        assert ask(watcher, None, "ping") == {"reply": "pong"}
        assert ask(watcher, "x", "watch", event="nope")["tag"] == "x"


def test_the_last_line_after_a_request_with_a_tag_has_none(tmp_path: Path) -> None:
    with running(tmp_path, "--idle-seconds-max", "0.2") as daemon, daemon.connect() as connection:
        assert ask(connection, "a", "ping")["tag"] == "a"
        last = connection.read()
        assert (unasked(last), "tag" in last) == ("idle_timeout", False)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("guarded")
    write_events(folder, 100)
    with running(folder, "--access", write_access(folder / "access.json")) as daemon:
        yield daemon


@pytest.fixture
def stranger(guarded: Daemon) -> Iterator[Reached]:
    with plain(guarded) as connection:
        yield connection


def test_who_may_not_do_something_is_told_so_with_the_tag(stranger: Reached) -> None:
    stranger.send(
        b"\n".join(
            [
                tagged("a", "auth", token=secret("reader")),
                tagged("b", "book", event="1", quantity=1),
                tagged("c", "show", id="nothing"),
                tagged("d", "auth", token="x" * 43),
                tagged(None, "stats"),
                b"",
            ]
        )
    )
    replies = [stranger.read() for _ in range(5)]
    assert [(reply.get("tag"), reply.get("code", reply["reply"])) for reply in replies] == [
        ("a", "welcome"),
        ("b", "unauthorized"),
        ("c", "unauthorized"),
        ("d", "unauthorized"),
        (None, "unauthorized"),
    ]


@pytest.mark.parametrize("line", [{"cmd": "list"}, {"cmd": "auth", "token": "x" * 43}, {"cmd": "nope"}])
def test_the_refusal_that_ends_a_stranger_is_a_reply(stranger: Reached, line: dict[str, str]) -> None:
    refusal = stranger.ask(msgspec.json.encode({**line, "tag": "a"}))
    assert (refusal["reply"], refusal["tag"], "unasked" in refusal) == ("error", "a", False)
    assert stranger.rest() == b""


def test_a_stranger_who_is_answered_and_then_ended_gets_one_reply(stranger: Reached) -> None:
    assert stranger.ask(tagged("a", "ping")) == {"reply": "pong", "tag": "a"}
    last = stranger.read()
    assert (unasked(last), "tag" in last) == ("unauthorized", False)
    assert stranger.rest() == b""
