"""What ticketctl import refuses before it sends anything: files that are broken, or are something else."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import (
    SECONDS_MAX,
    command_line,
    ctl,
    environment,
    nobody,
)
from tests.daemon import running, write_events
from tests.ticketctl.test_export import event_line, export
from tests.ticketctl.test_import import saved


@pytest.mark.parametrize("text", ["", "\n \n", '{"events":[]}', '{\n  "events": []\n}\n'])
def test_an_import_without_events_exits_with_status_2(text: str, tmp_path: Path) -> None:
    path = saved(tmp_path, text)
    with nobody() as port:
        named = ctl("import", path, port=port)
        piped = ctl("import", "-", port=port, stdin=text)
    assert (named.returncode, named.stdout) == (piped.returncode, piped.stdout) == (2, "")
    assert named.stderr == f"ticketctl: bad_request: {path} has no events, so there is nothing to import\n"
    assert piped.stderr == "ticketctl: bad_request: standard input has no events, so there is nothing to import\n"


def test_an_import_of_a_closed_input_exits_with_status_2() -> None:
    closed = ["sh", "-c", '"$@" <&-', "sh"]
    with nobody() as port:
        done = subprocess.run(
            [*closed, *command_line(("import", "-"), port)],
            capture_output=True,
            env=environment(),
            timeout=SECONDS_MAX,
        )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"ticketctl: bad_request: standard input has no events")


@pytest.mark.parametrize("what", ["booking", "ticket"])
def test_import_refuses_bookings_and_tickets(what: str, tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as source, source.connect() as connection:
        connection.ask("book 1 1")
        exported = export(source, f"{what}s")
    path = saved(tmp_path, event_line("a") + exported)
    with nobody() as port:
        done = ctl("import", path, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"ticketctl: bad_request: {path}:2: this is a {what};"
        " import takes events, and `ticketd move` moves a whole ledger\n"
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (event_line("a") + event_line("b", 0), 2, "capacity must be"),
        (event_line("a") + event_line("b", available=6), 2, "available must not be more than capacity"),
        (event_line("a") + event_line("b/c"), 2, "id must be"),
        (event_line("a") + event_line("a", 6), 2, "the id a is there twice"),
        (event_line("a") + "\n" + event_line("b", name="a\x1bb"), 3, "U+001B"),
        (event_line("a") + event_line("b", date="2027-03-11"), 2, "date"),
        (event_line("a") + event_line("b", opens="2027-03-11 20:00"), 2, "opens"),
        (event_line("a") + event_line("b", per_buyer=0), 2, "per_buyer must be"),
        (event_line("a") + event_line("b", name=" "), 2, "blank"),
        (event_line("a") + '{"id":"b"}\n', 2, "missing required field `name`"),
        (event_line("a") + "[]\n", 2, "Expected `object`"),
        (event_line("a") + "{\n", 2, "truncated"),
        (event_line("a").encode() + b'{"id":"\xff"}\n', 2, "utf-8"),
        ('{"id":"a"}\n', 1, "missing required field `name`"),
        ('{"events":[\n{"ID":"a"}]}', 2, "an event needs Name"),
        ('{"events":[\n,]}', 2, "this is not JSON"),
        ("id\tname\n", 1, "this is not JSON"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_not_sent(
    text: str | bytes, line: int, said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, text)
    with nobody() as port:
        done = ctl("import", path, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert f" {path}:{line}: " in done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "said"), [("missing", "No such file"), (".", "Is a directory")])
def test_importing_an_unreadable_file_exits_with_status_2(name: str, said: str, tmp_path: Path) -> None:
    with nobody() as port:
        done = ctl("import", str(tmp_path / name), port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot read {tmp_path / name} ({said}" in done.stderr


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "--force"]])
def test_wrong_usage_of_import_exits_with_status_2(words: list[str]) -> None:
    with nobody() as port:
        done = ctl("import", *words, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert "; usage: import FILE" in done.stderr
