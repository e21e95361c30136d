"""The log: as lines for people or as JSON, and each sale in it if that is wanted."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.daemon import Daemon, running, until, write_events
from tests.test_cli import ended
from ticketd import logs
from ticketd.commits.activity import LINES_PER_SECOND_MAX
from ticketd.logs import JsonFormatter, TextFormatter

CROWD = 1_000
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def objects(lines: list[str]) -> list[dict[str, str]]:
    decoded = [msgspec.json.decode(line, type=dict[str, str]) for line in lines]
    assert all(re.fullmatch(TIME, each["time"]) for each in decoded)
    return decoded


def test_a_log_in_json_has_an_object_on_each_line(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    with running(tmp_path, "--log-format", "json") as daemon, daemon.connect() as connection:
        connection.ask('create "Jazz\u201c \\"Night\\"" 2027-03-11T20:00:00Z 5 --id jazz')
        assert daemon.end() == 0
    logged = objects(daemon.lines)
    assert {tuple(each) for each in logged} == {("time", "level", "message")}
    assert {each["level"] for each in logged} == {"INFO"}
    messages = [each["message"] for each in logged]
    assert messages[-1] == "ended"
    assert any(message.startswith("ready listen=127.0.0.1:") for message in messages)
    assert any('created event=jazz name="Jazz\u201c \\"Night\\""' in message for message in messages)


def test_the_reason_of_a_failed_start_is_an_error_in_json_too(tmp_path: Path) -> None:
    (tmp_path / "events.json").write_text("{")
    status, lines = ended("--port", "0", "--events", str(tmp_path / "events.json"), "--log-format", "json")
    assert status == 4
    [logged] = objects(lines)
    assert logged["level"] == "ERROR"
    assert logged["message"].startswith(f"{tmp_path}/events.json:1: ")


@pytest.fixture(scope="module", params=["text", "json"])
def naming(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that names each sale."""
    folder = tmp_path_factory.mktemp("naming")
    write_events(folder, 1_000_000)
    with running(folder, "--log-sales", "--log-format", request.param) as daemon:
        yield daemon


def test_each_sale_of_a_stampede_is_named(naming: Daemon) -> None:
    assert CROWD > 10 * LINES_PER_SECOND_MAX
    with naming.connect() as connection:
        connection.send(b"".join(b"book 1 1 --booking b%d\n" % number for number in range(CROWD)))
        for _ in range(CROWD):
            assert connection.read()["reply"] == "booking"
        # Sent again, they are no sales.
        connection.ask("book 1 1 --booking b0")
        connection.finish()
        naming.wait_line(f"booking=b{CROWD - 1} ")
    named = re.findall(r"booked event=1 quantity=1 booking=(b\d+) available=\d+ peer=", "\n".join(naming.lines))
    assert named == [f"b{number}" for number in range(CROWD)]
    assert not [line for line in naming.lines if "committed changes=" in line]
    if naming.lines[0].startswith("{"):
        objects(naming.lines)
    else:
        assert all(re.match(f"{TIME} INFO |ready ", line) for line in naming.lines)


def test_the_lines_say_what_was_changed(tmp_path: Path) -> None:
    write_events(tmp_path, 9)
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
    with running(tmp_path) as daemon, daemon.connect() as connection:
        for words, line in (
            ("amend 1 --no-paused --per-buyer 4", "amended event=1 paused=false per_buyer=4 available=9 "),
            (
                '{"cmd":"amend","event":"1","capacity":8,"per_buyer":null}',
                "amended event=1 capacity=8 per_buyer=null available=8 ",
            ),
            ("amend 1 --opens 2026-02-01T09:00:00Z", "amended event=1 opens=2026-02-01T09:00:00Z available=8 "),
            ('amend 1 --name "a \\"b"', r'amended event=1 name="a \\"b" available=8 '),
            ("hold 1 3 --seconds 60 --booking h", f"held event=1 quantity=3 booking=h available=5 expires={time} "),
            ("extend h 90", f"extended event=1 quantity=3 booking=h available=5 expires={time} "),
            ("confirm h", "confirmed event=1 quantity=3 booking=h available=5 "),
            ("redeem h", "redeemed event=1 booking=h admitted=3 "),
            ("hold 1 2 --seconds 1 --booking i", "held event=1 quantity=2 booking=i available=3 expires="),
        ):
            assert "code" not in connection.ask(words), words
            daemon.wait_line(f" INFO {line}")
        daemon.wait_line(" INFO expired event=1 tickets=2$")


def test_a_traceback_is_a_field_of_its_own() -> None:
    try:
        raise ValueError("a bug\n\x1b")  # noqa: TRY301
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it failed: %s", ("why",), sys.exc_info())
    [logged] = objects(JsonFormatter().format(record).split("\n"))
    assert (logged["level"], logged["message"]) == ("ERROR", "it failed: why")
    assert logged["traceback"].startswith("Traceback (most recent call last):\n")
    assert TextFormatter().format(record).splitlines()[1] == "Traceback (most recent call last):"


def test_what_is_no_text_is_logged_all_the_same() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "cannot read \udcff.json", None, None)
    assert objects([JsonFormatter().format(record)])[0]["message"] == r"cannot read \udcff.json"


def test_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(logs, "_STDERR", writing)
    monkeypatch.setattr(logs, "LINES_WAITING_MAX", 5)
    handler = logs.StderrHandler()
    # More than a pipe holds, so the thread waits for its reader.
    handler.write_line("x" * (1 << 20))
    until(lambda: handler._lines.empty())
    for text in ("1\n2\n3", "4\n5", "6", "7\n8"):
        handler.write_line(text)
    with os.fdopen(reading) as lines:
        assert len(lines.readline()) == (1 << 20) + 1
        handler.close()
        os.close(writing)
        assert lines.read().splitlines() == [
            *"12345",
            "(3 log lines were dropped: stderr was not read in time)",
        ]
