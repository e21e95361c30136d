"""What is said on a connection: one coded reply a line, in order. A real daemon, raw bytes."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running, write_events


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("server")
    write_events(folder, 1_000_000, 10, 10)
    with running(folder) as daemon:
        yield daemon


BAD_LINES = [
    (b"book 1 0", "bad_request", "quantity"),
    (b"book 1 -5", "bad_request", "quantity"),
    (b"book 1 99999999999999999999", "bad_request", "quantity"),
    (b"book nope 1", "event_not_found", "nope"),
    (b"book nope! 1", "bad_request", "event"),
    (b'create "" 2027-03-11T20:00:00Z 5', "bad_request", "name"),
    (b"create Jazz 2027-03-11T20:00:00 5", "bad_request", "date"),
    (b"create Jazz 2027-03-11 5", "bad_request", "date"),
    (b"create Jazz 2027-03-11T20:00:00Z 0", "bad_request", "capacity"),
    (b"create 'a\x1b[2J' 2027-03-11T20:00:00Z 5", "bad_request", "name"),
    (b"create a\0b 2027-03-11T20:00:00Z 5", "bad_request", "name"),
    (b'{"cmd":"create","name":"a\\nb","date":"2027-03-11T20:00:00Z","capacity":5}', "bad_request", "name"),
    (b'{"cmd":"book"}', "bad_request", "event"),
    (b'{"cmd":"book","event":"1","quantity":true}', "bad_request", "quantity"),
    (b'{"cmd":"book","event":"1","quantity":1,"colour":"red"}', "bad_request", "colour"),
    (b"{}", "bad_request", "cmd"),
    (b"[]", "unknown_command", "[]"),
    (b"null", "unknown_command", "null"),
    (b"{", "bad_frame", "JSON"),
    (b'{"cmd":"list"} x', "bad_frame", "JSON"),
    (b'{"cmd":"book","event":"\xff","quantity":1}', "bad_frame", "UTF-8"),
    (b"book \xff\xfe 1", "bad_frame", "UTF-8"),
    (b'{"a":' * 3_000, "bad_frame", "this line is not JSON"),
    (b"[" * 16_000, "unknown_command", "[[["),
    (b'create "Jazz', "bad_request", "quot"),
    (b"list --after nope", "event_not_found", "nope"),
    (b"help nope", "unknown_command", "nope"),
    (b"show nope", "not_found", "nope"),
]


@pytest.mark.parametrize(("line", "code", "named"), BAD_LINES, ids=lambda value: repr(value)[:40])
def test_bad_input_gets_its_error_code_and_changes_nothing(daemon: Daemon, line: bytes, code: str, named: str) -> None:
    with daemon.connect() as connection:
        before = connection.ask("list")
        refusal = connection.ask(line)
        assert (refusal["reply"], refusal["code"]) == ("error", code)
        assert named in refusal["message"]
        assert refusal["message"].isprintable()
        assert connection.ask("list") == before
        assert connection.ask("book 1 1")["state"] == "confirmed"


@pytest.mark.parametrize(
    "data", [b"x" * 1_000_000, b"[" * 100_000, b"{" * 16_385, b"book 1 1 " + b" " * 16_376 + b"\n"]
)
def test_a_line_too_long_is_refused_and_ends_the_connection(daemon: Daemon, data: bytes) -> None:
    with daemon.connect() as connection:
        connection.send(b"ping\n" + data)
        assert connection.read() == {"reply": "pong"}
        assert connection.read()["code"] == "frame_too_long"
        assert connection.rest() == b""


def test_an_http_request_is_refused_and_its_body_is_not_run(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(b"ping\nPOST / HTTP/1.1\r\nHost: localhost\r\n\r\nbook 1 1\n")
        assert connection.read() == {"reply": "pong"}
        assert connection.read()["code"] == "bad_frame"
        assert connection.rest() == b""


# What other programs send, with a booking in it: as text that they were given, or by chance.
STREAMS = {
    "browser": b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nbook 3 1\r\n",
    "browser, any method": b"patch  / http/1.1\r\nHost: localhost\r\n\r\nbook 3 1\r\n",
    "UPnP": b"M-SEARCH * HTTP/1.1\r\nbook 3 1\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"r" * 32 + b"\x20\nbook 3 1\n" + b"s" * 22,
    "SMTP": b"EHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\nbook 3 1\r\n.\r\n",
    "Redis": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8\r\nbook 3 1\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\nbook 3 1\r\n",
    "IRC": b"NICK x\r\nUSER x 0 * :\r\nbook 3 1\r\n",
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=list(STREAMS))
def test_another_protocol_is_refused_once_and_books_nothing(daemon: Daemon, stream: bytes) -> None:
    with daemon.connect() as connection:
        connection.send(stream)
        assert connection.read()["code"] == "bad_frame"
        assert connection.rest() == b""
    with daemon.connect() as connection:
        assert connection.ask("show 3")["sold"] == 0


@pytest.mark.parametrize("mistake", [b"bok 1 1", b"LIST", b"Book 1 1", b"?", b"[]", b'"lst"', b"\xff", b"{}"])
def test_a_first_line_with_a_mistake_is_an_error_in_step(daemon: Daemon, mistake: bytes) -> None:
    with daemon.connect() as connection:
        connection.send(mistake + b"\nping\n")
        assert connection.read()["reply"] == "error"
        assert connection.read() == {"reply": "pong"}


def test_replies_keep_their_order_and_reads_see_earlier_bookings(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(b"list\nbook 1 2\nlist\n{}\nbook 1 3\nshow 1\nping\n")
        before, first, between, error, second, after, pong = (connection.read() for _ in range(7))
    sold = before["events"][0]["sold"]
    assert [reply["reply"] for reply in (first, error, second, pong)] == ["booking", "error", "booking", "pong"]
    assert between["events"][0]["sold"] == sold + 2
    assert after["sold"] == sold + 5


def test_a_page_shows_what_was_sent_before_it(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(
            b"hold 1 1 --booking zz-1\nconfirm zz-1\nbookings --after zz-0 --limit 5\nrelease zz-1\nbook 1 1\nping\n"
        )
        held, confirmed, page, refused, booked, pong = (connection.read() for _ in range(6))
    assert (held["state"], refused["code"], booked["reply"]) == ("held", "already_confirmed", "booking")
    assert [(each["id"], each["state"]) for each in page["bookings"]] == [("zz-1", "confirmed")]
    assert page["bookings"][0]["version"] == confirmed["version"]
    assert pong == {"reply": "pong"}


def test_sending_byte_by_byte_does_not_change_the_replies(daemon: Daemon) -> None:
    lines = b'{"cmd":"ping"}\r\n\n  ping\n\r\n{"cmd":"nope"}\nshow nope\n'
    with daemon.connect() as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in lines:
            connection.send(bytes([byte]))
        dribbled = [connection.read() for _ in range(4)]
        connection.send(lines)
        assert [connection.read() for _ in range(4)] == dribbled


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b'{"cmd":"ping"}', {"reply": "pong"}),
        (b"ping", "bad_frame"),
        (b'{"cmd":"pi', "bad_frame"),
    ],
)
def test_a_last_line_without_a_newline_counts_only_as_json(daemon: Daemon, data: bytes, reply: object) -> None:
    with daemon.connect() as connection:
        connection.send(data)
        connection.finish()
        answer = connection.read()
        assert reply in (answer, answer.get("code"))
        assert connection.rest() == b""


def test_a_pipeline_of_3000_requests_is_answered_in_order(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(b"book 1 1\n" * 3_000)
        replies = [connection.read() for _ in range(3_000)]
    versions = [reply["version"] for reply in replies]
    assert versions == list(range(versions[0], versions[0] + 3_000))


def test_event_names_cannot_forge_a_log_line(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, daemon.connect() as connection:
        created = connection.ask('create "a\\" peer=evil \\\\" 2027-03-11T20:00:00Z 5 --id forger')
        assert created["name"] == 'a" peer=evil \\'
        assert r'name="a\" peer=evil \\" capacity=5' in daemon.wait_line("created event=forger")


def test_stats_count_what_was_done(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        before = connection.ask("stats")
        connection.ask("book 1 2 --booking counted")
        connection.ask("book 1 2 --booking counted")
        connection.ask("book 2 999")
        after = connection.ask("stats")
    grown = {name for name in before if after[name] != before[name]}
    assert after["bookings"] - before["bookings"] == 1
    assert after["tickets"] - before["tickets"] == 2
    assert after["refused"] - before["refused"] == 1
    assert after["requests"] - before["requests"] == 4
    # Connections of the test before may be closing yet.
    assert grown <= {
        "bookings",
        "tickets",
        "refused",
        "requests",
        "commits",
        "uptime_seconds",
        "connections",
        "busiest",
        "slowest",
    }
