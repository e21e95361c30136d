"""The metrics and the health of a daemon over HTTP: what they say, and what nobody can take from others there."""

import asyncio
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.daemon import REPLY_SECONDS_MAX, Daemon, running, until, write_events
from tests.faults.daemon import Machine
from tests.test_cli import ended
from ticketd import daemon as daemon_module
from ticketd.config import STATUS_CANNOT_LISTEN
from ticketd.security import CannotListenError
from ticketd.serving import http

PATHS = ("/metrics", "/livez", "/readyz")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with metrics for all tests of the file, with two events."""
    folder = tmp_path_factory.mktemp("watched")
    write_events(folder, 100, 200)
    with running(folder, "--metrics", "0") as daemon:
        yield daemon


def raw(daemon: Daemon, data: bytes) -> bytes:
    """Return all that answers these bytes."""
    with socket.create_connection(("127.0.0.1", daemon.metrics_port), REPLY_SECONDS_MAX) as connection:
        connection.sendall(data)
        with connection.makefile("rb") as answer:
            return answer.read()


def get(daemon: Daemon, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Return the status, the headers and the body of the answer to a request."""
    answer = raw(daemon, f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n".encode()).decode()
    head, _, body = answer.partition("\r\n\r\n")
    line, *headers = head.split("\r\n")
    assert line.startswith("HTTP/1.1 ")
    fields = dict(header.split(": ") for header in headers)
    assert int(fields["Content-Length"]) == len(body.encode())
    return int(line.split()[1]), fields, body


def metrics(daemon: Daemon) -> dict[str, float]:
    """Return the value of each time series."""
    status, fields, text = get(daemon, "/metrics")
    assert (status, fields["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_the_metrics_count_what_was_done(watched: Daemon) -> None:
    before = metrics(watched)
    with watched.connect() as connection:
        for line in ("book 1 2", "book 1 2 --booking b", "show b", "hold 2 3", "book 1 500", "redeem x", "list", "no"):
            connection.ask(line)
        # The catalogue shows what is busiest once a second.
        until(lambda: 'ticketd_event_tickets{event="1",state="sold"}' in metrics(watched))
        after = metrics(watched)
        shown = connection.ask("stats")

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert {name: grew(f'ticketd_requests_total{{command="{name}"}}') for name in ("book", "hold", "show", "list")} == {
        "book": 3,
        "hold": 1,
        "show": 1,
        "list": 1,
    }
    assert grew("ticketd_requests_received_total") == 8
    assert grew('ticketd_refusals_total{code="sold_out",command="book"}') == 1
    assert grew('ticketd_refusals_total{code="ticket_not_found",command="redeem"}') == 1
    assert (grew("ticketd_bookings_total"), grew("ticketd_tickets_sold_total")) == (2, 4)
    assert grew("ticketd_commits_total") == 3
    for histogram in ("queue_wait", "commit", "sync"):
        assert grew(f"ticketd_{histogram}_seconds_count") == 3
        assert after[f'ticketd_{histogram}_seconds_bucket{{le="+Inf"}}'] == after[f"ticketd_{histogram}_seconds_count"]
    assert after["ticketd_commit_seconds_sum"] > after["ticketd_sync_seconds_sum"] > 0
    assert after["ticketd_connections"] == 1
    assert after["ticketd_ready"] == 1
    assert after["ticketd_events"] == 2
    states = ("available", "held", "sold")
    assert [after[f'ticketd_tickets{{state="{state}"}}'] for state in states] == [293, 3, 4]
    assert [after[f'ticketd_event_tickets{{event="1",state="{state}"}}'] for state in states] == [96, 0, 4]
    assert after[f'ticketd_build_info{{version="{shown["version"]}"}}'] == 1
    assert after["ticketd_commits_total"] == shown["commits"]
    assert after["process_resident_memory_bytes"] > 1e7


def test_the_metrics_show_who_waits_in_line(watched: Daemon) -> None:
    names = ("ticketd_bookings_waiting", 'ticketd_event_bookings_waiting{event="line"}', "ticketd_offers_total")

    def shown() -> list[float]:
        now = metrics(watched)
        return [now.get(name, 0) for name in names]

    with watched.connect() as connection:
        for line in (
            "create Line 2027-03-11T20:00:00Z 1 --id line",
            "book line 1 --booking l",
            "wait line 1",
            "wait line 1",
        ):
            assert connection.ask(line)["reply"] in ("event", "booking")
        until(lambda: shown() == [2, 2, 0])
        connection.ask("cancel l")
        assert shown() == [1, 1, 1]


def test_names_and_types_follow_the_conventions_of_prometheus(watched: Daemon) -> None:
    text = get(watched, "/metrics")[2]
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    helped = set(re.findall(r"^# HELP (\w+) \S", text, re.MULTILINE))
    assert len(kinds) > 20
    assert helped == set(kinds)
    for name, kind in kinds.items():
        assert re.fullmatch("(ticketd|process)_[a-z_]+", name)
        assert (kind == "counter") == name.endswith("_total")
        assert kind != "histogram" or name.endswith("_seconds")


def test_operating_md_lists_the_metrics_that_are_served(watched: Daemon) -> None:
    text = get(watched, "/metrics")[2]
    served = re.findall(r"^# TYPE (ticketd_\w+)", text, re.MULTILINE)
    page = Path(__file__).parent.parent.parent / "docs" / "operating.md"
    assert sorted(re.findall(r"^\| `(ticketd_\w+)` \|", page.read_text(), re.MULTILINE)) == sorted(served)


def test_health_says_that_it_lives_and_sells(watched: Daemon) -> None:
    assert get(watched, "/livez")[0::2] == (200, "alive\n")
    with watched.connect() as connection:
        status, fields, body = get(watched, "/readyz")
        assert (status, fields["Content-Type"]) == (200, "application/json")
        assert msgspec.json.decode(body) == connection.ask("ready") == {"reply": "ready"}


def test_balancers_and_probes_are_answered_as_they_ask(watched: Daemon) -> None:
    for request in (b"GET /readyz HTTP/1.0\r\n\r\n", b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert raw(watched, request).startswith(b"HTTP/1.1 200 OK\r\n")


def test_readiness_says_the_same_as_the_command(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    machine = Machine(tmp_path)
    with running(tmp_path, "--metrics", "0", module=machine.module, env=machine.env) as daemon:
        connection = daemon.connect()
        with machine.is_full():
            assert connection.ask("book 1 1")["code"] == "storage_full"
            status, _, body = get(daemon, "/readyz")
            assert (status, msgspec.json.decode(body)["code"]) == (503, "storage_full")
            assert metrics(daemon)["ticketd_ready"] == 0
            assert get(daemon, "/livez")[0] == 200
        with machine.syncs_stall():
            # It cannot end before the disk answers.
            until(lambda: connection.ask("ready")["reply"] == "ready")
            connection.send(b"book 1 1\n")
            until(machine.stalled)
            daemon.process.terminate()
            daemon.wait_line("draining")
            status, _, body = get(daemon, "/readyz")
            assert (status, msgspec.json.decode(body)["code"]) == (503, "shutting_down")
        assert connection.read()["reply"] == "booking"
        connection.close()
        assert daemon.wait() == 0


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_head_is_answered_as_get_is_without_the_body(watched: Daemon, path: str) -> None:
    status, fields, body = get(watched, path)
    head, _, rest = raw(watched, f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert rest == b""
    assert int(line.split()[1]) == status
    length = dict(header.split(": ") for header in headers)["Content-Length"]
    if path == "/metrics":
        # They go on counting.
        assert int(length) > len(body) / 2
    else:
        assert int(length) == len(body)
    assert [each for each in headers if "Length" not in each] == [
        f"{name}: {value}" for name, value in fields.items() if name != "Content-Length"
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEADER"])
@pytest.mark.parametrize("path", PATHS)
def test_nothing_but_get_and_head_is_answered(watched: Daemon, path: str, method: str) -> None:
    status, fields, _ = get(watched, path, method)
    assert (status, fields["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", 404),
        (b"GET /\xff\x00\x1b HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b'{"cmd":"list"}\n\r\n\r\n', 400),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * http.HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"x" * (1 << 20), 431),
    ],
)
def test_anything_else_is_refused_and_the_next_one_answered(watched: Daemon, data: bytes, status: int) -> None:
    try:
        answer = raw(watched, data)
    except ConnectionError:
        # It was not all read.
        assert len(data) > http.HEAD_BYTES_MAX
    else:
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert get(watched, "/livez")[0] == 200


def test_few_are_connected_at_once_and_others_are_closed(watched: Daemon) -> None:
    address = ("127.0.0.1", watched.metrics_port)
    silent = [socket.create_connection(address, REPLY_SECONDS_MAX) for _ in range(http.CONNECTIONS_MAX)]
    try:
        until(lambda: raw(watched, b"") == b"")
        with socket.create_connection(address, REPLY_SECONDS_MAX) as other:
            assert other.recv(1) == b""
        silent.pop().close()
        until(lambda: raw(watched, b"GET /livez HTTP/1.0\r\n\r\n"))
        with watched.connect() as connection:
            assert connection.ask("ping") == {"reply": "pong"}
    finally:
        for each in silent:
            each.close()


def test_clients_that_go_without_a_goodbye_leave_no_trace(watched: Daemon) -> None:
    seen = len(watched.lines)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", watched.metrics_port), REPLY_SECONDS_MAX) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: raw(watched, b"GET /livez HTTP/1.0\r\n\r\n"))
    assert not [line for line in watched.lines[seen:] if "rror" in line]


async def test_who_says_nothing_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTION_SECONDS_MAX", 0.05)
    server = http.HttpServer({})
    listening = socket.create_server(("127.0.0.1", 0))
    await server.listen([listening])
    for said in (b"", b"GET /livez HTTP/1.1\r\n"):
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(said)
        async with asyncio.timeout(REPLY_SECONDS_MAX):
            assert await reader.read() == b""
        writer.close()
    server.close()


def test_beyond_loopback_metrics_are_refused_unless_that_is_wanted(tmp_path: Path) -> None:
    flags = ("--port", "0", "--events", str(tmp_path / "events.json"), "--metrics", "192.0.2.1:9090")
    status, lines = ended(*flags)
    assert status == STATUS_CANNOT_LISTEN
    assert "whoever reaches 192.0.2.1:9090 could read the metrics" in lines[-1]
    assert "--open-to-the-network" in lines[-1]
    _, lines = ended(*flags, "--open-to-the-network")
    assert "open to the network: whoever reaches 192.0.2.1:9090 can read the metrics" in lines[0]
    # No machine has this address.
    assert lines[-1].startswith("ticketd: cannot listen on 192.0.2.1:9090: ")
    assert not list(tmp_path.iterdir())


def test_a_missing_module_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "ticketd.serving.monitor", raising=False)
    monkeypatch.delitem(sys.modules, "ticketd.serving.metrics", raising=False)
    with pytest.raises(CannotListenError, match=r"prometheus_client is missing, .* pip install 'ticketd\[metrics\]'"):
        daemon_module._load_monitor()
