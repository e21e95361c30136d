"""ticketctl import: the events of a file, checked whole, and created once."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.conftest import (
    BREAK,
    SILENCE,
    answer,
    ctl,
    ended,
    lying,
    nobody,
    terminal,
)
from tests.daemon import Daemon, running, write_events
from tests.ticketctl.test_export import event_line, export, listed, rows
from ticketctl.protocol import REQUESTS_IN_FLIGHT_MAX

NAMES = ["Fête à Zürich – 東京 🎟️", 'Jazz "Night" d\'été', "-q"]
MANY = 2_100


BUSY = answer("error", code="busy", message="too many are before you", retry_after=0.01)


def saved(folder: Path, text: str | bytes) -> str:
    path = folder / "import"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def summary(created: int, known: int, refused: str = "none") -> str:
    return f"events: {created} created, {known} known already, refused: {refused}\n"


def created(event: str) -> bytes:
    """Return the reply to the ``create`` of an event."""
    return answer("event", **msgspec.json.decode(event_line(event)))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon without any event."""
    folder = tmp_path / "empty"
    folder.mkdir()
    with running(folder) as daemon:
        yield daemon


def test_an_import_into_an_empty_daemon_copies_the_list(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 100, 200, 300, available=(100, 50, 0))
    with running(tmp_path) as source:
        for name in NAMES:
            assert ctl("create", "--", name, "2027-03-11T21:00:00+01:00", "7", port=source.port).returncode == 0
        exported = export(source, "events")
        catalogue = listed(source)
    path = saved(tmp_path, exported)
    done = ctl("import", path, port=empty.port)
    assert (done.returncode, done.stdout, done.stderr) == (0, summary(6, 0), "")
    assert listed(empty) == catalogue
    assert export(empty, "events") == exported

    again = ctl("import", path, port=empty.port)
    assert (again.returncode, again.stdout, again.stderr) == (0, summary(0, 6), "")
    assert listed(empty) == catalogue


def test_tickets_sold_or_held_at_the_source_are_not_on_sale(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as source, source.connect() as connection:
        connection.ask("book 1 3")
        connection.ask("hold 1 2")
        exported = export(source, "events")
    assert ctl("import", saved(tmp_path, exported), port=empty.port).returncode == 0
    (event,) = listed(empty)
    assert (event["capacity"], event["available"], event["held"], event["sold"]) == (10, 5, 0, 5)


def test_import_reads_an_events_file_as_the_daemon_does(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 100, 200, available=(100, 50))
    path = str(tmp_path / "events.json")
    assert ctl("import", path, port=empty.port).stdout == summary(2, 0)
    assert ctl("import", path, port=empty.port).stdout == summary(0, 2)
    imported = listed(empty)
    with running(tmp_path) as daemon:
        assert listed(daemon) == imported


def test_the_sale_of_an_event_is_imported_and_known_again(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 100, 200)
    catalogue = msgspec.json.decode((tmp_path / "events.json").read_bytes())
    catalogue["events"][0] |= {"Opens": "2027-01-01T10:00:00.0001+01:00", "Closes": "2027-03-01T19:00:00Z"}
    path = saved(tmp_path, msgspec.json.encode(catalogue))
    assert ctl("import", path, port=empty.port).stdout == summary(2, 0)
    window = {"opens": "2027-01-01T09:00:00.001000Z", "closes": "2027-03-01T19:00:00Z"}
    assert [event.items() >= window.items() for event in listed(empty)] == [True, False]
    # The daemon writes how many are left after sales. That makes it no other event, and another window does.
    catalogue["events"][0]["AvailableTickets"] = 90
    later = saved(tmp_path, msgspec.json.encode(catalogue))
    assert ctl("import", later, port=empty.port).stdout == summary(0, 2)
    catalogue["events"][0]["Closes"] = "2027-03-01T19:30:00Z"
    other = saved(tmp_path, msgspec.json.encode(catalogue))
    again = ctl("import", other, port=empty.port)
    assert (again.returncode, again.stdout) == (1, summary(0, 1, "1 event_exists"))


def test_every_field_of_an_exported_event_is_imported(tmp_path: Path, empty: Daemon) -> None:
    sale = {
        "opens": "2027-01-01T09:00:00Z",
        "closes": "2027-03-01T19:00:00Z",
        "paused": True,
        "per_buyer": 4,
    }
    path = saved(tmp_path, event_line("a", 5, **sale) + event_line("b"))
    assert ctl("import", path, port=empty.port).stdout == summary(2, 0)
    assert export(empty, "events") == event_line("a", 5, **sale) + event_line("b")
    with empty.connect() as connection:
        connection.ask("amend a --no-paused --opens 2026-01-01T09:00:00Z")
        connection.ask("amend a --opens 2027-01-01T09:00:00Z")
    # A sale is paused and goes on, and is the same event.
    assert ctl("import", path, port=empty.port).stdout == summary(0, 2)
    other = saved(tmp_path, event_line("a", 5, **{**sale, "per_buyer": 5}))
    assert ctl("import", other, port=empty.port).stdout == summary(0, 0, "1 event_exists")


def test_importing_again_after_sales_undoes_nothing(tmp_path: Path, empty: Daemon) -> None:
    path = saved(tmp_path, event_line("a"))
    ctl("import", path, port=empty.port)
    with empty.connect() as connection:
        connection.ask("book a 2")
    assert ctl("import", path, port=empty.port).stdout == summary(0, 1)
    assert [(event["available"], event["sold"]) for event in listed(empty)] == [(3, 2)]


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_thousands_of_events_are_imported_from_a_pipe(path: str, empty: Daemon) -> None:
    lines = "".join(event_line(f"e{number}") for number in range(MANY))
    done = ctl("import", path, port=empty.port, stdin=lines)
    assert (done.returncode, done.stdout, done.stderr) == (0, summary(MANY, 0), "")
    assert len(listed(empty)) == MANY


def test_a_catalogue_is_imported_from_standard_input(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 100, 200)
    done = ctl("import", "-", port=empty.port, stdin=(tmp_path / "events.json").read_bytes())
    assert (done.returncode, done.stdout) == (0, summary(2, 0))


def test_a_script_refuses_to_import_its_own_lines(daemon: Daemon) -> None:
    done = ctl(port=daemon.port, stdin="import -\nping\n")
    assert (done.returncode, done.stdout) == (2, "pong\n")
    assert done.stderr.startswith("ticketctl: line 1: bad_request: here, standard input has the commands")


def test_import_reports_a_refused_event_and_creates_the_others(tmp_path: Path, empty: Daemon) -> None:
    ctl("create", "Another", "2027-03-11T20:00:00Z", "5", "--id", "b", port=empty.port)
    path = saved(tmp_path, event_line("a") + event_line("b") + event_line("c"))
    done = ctl("import", path, port=empty.port)
    assert done.returncode == 1
    assert done.stderr.startswith("ticketctl: event_exists: event b ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == summary(2, 0, "1 event_exists")
    assert [event["id"] for event in listed(empty)] == ["b", "a", "c"]


def test_import_prints_its_summary_as_one_json_object(tmp_path: Path, empty: Daemon) -> None:
    ctl("create", "Another", "2027-03-11T20:00:00Z", "5", "--id", "b", port=empty.port)
    done = ctl("import", saved(tmp_path, event_line("a") + event_line("b")), "--json", port=empty.port)
    assert (done.returncode, done.stderr) == (1, "")
    refusal, last = rows(done.stdout)
    assert (refusal["reply"], refusal["code"]) == ("error", "event_exists")
    assert last == {"reply": "import", "events": {"created": 1, "known": 0, "refused": {"event_exists": 1}}}


def test_import_with_quiet_shows_no_summary(tmp_path: Path, empty: Daemon) -> None:
    done = ctl("-q", "import", saved(tmp_path, event_line("a")), port=empty.port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_import_without_a_daemon_exits_with_status_3(tmp_path: Path) -> None:
    path = saved(tmp_path, event_line("a"))
    with nobody() as port:
        done = ctl("import", path, port=port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_terminal_shows_the_progress_of_an_import(tmp_path: Path, empty: Daemon) -> None:
    path = saved(tmp_path, "".join(event_line(f"e{number}") for number in range(20)))
    with terminal("import", path, port=empty.port) as screen:
        screen.expect(r"\d+%")
        status, shown = ended(screen)
    assert status == 0
    assert summary(20, 0) in shown


@pytest.mark.parametrize("first", [(created("a"), BREAK), (created("a"), BUSY, created("c"))])
def test_an_import_retries_only_what_was_not_done(first: tuple[bytes, ...], tmp_path: Path) -> None:
    path = saved(tmp_path, event_line("a") + event_line("b") + event_line("c"))
    with lying(*first, created("b"), created("c")) as liar:
        done = ctl("import", path, port=liar.port)
        asked = [liar.asked()["id"] for _ in range(4)]
    assert (done.returncode, done.stdout, done.stderr) == (0, summary(3, 0), "")
    assert asked == (["a", "b", "b", "c"] if BREAK in first else ["a", "b", "c", "b"])


def test_an_import_without_a_reply_exits_with_status_4(tmp_path: Path) -> None:
    path = saved(tmp_path, event_line("a", available=3, sold=2))
    with lying(SILENCE) as liar:
        done = ctl("import", path, "--timeout", "0.5", port=liar.port)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} import {path}\n")


UNKNOWN = answer("error", code="outcome_unknown", message="it is unknown")


@pytest.mark.parametrize(("answers", "said"), [((UNKNOWN,), "it is unknown. "), ((BREAK, BUSY), "127.0.0.1:")])
def test_an_import_counts_what_was_done_before_an_unknown(
    answers: tuple[bytes, ...], said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, event_line("a") + event_line("b"))
    with lying(created("a"), *answers) as liar:
        done = ctl("import", path, port=liar.port)
    assert (done.returncode, done.stdout) == (4, summary(1, 0))
    assert done.stderr.startswith(f"ticketctl: {said}")
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} import {path}\n")


def test_an_import_sends_no_more_at_once_than_a_commit_takes(tmp_path: Path) -> None:
    ids = [f"e{number}" for number in range(REQUESTS_IN_FLIGHT_MAX + 1)]
    path = saved(tmp_path, "".join(map(event_line, ids)))
    with lying(*[SILENCE] * REQUESTS_IN_FLIGHT_MAX) as liar:
        done = ctl("import", path, "--timeout", "0.5", port=liar.port)
        asked = [liar.asked()["id"] for _ in range(REQUESTS_IN_FLIGHT_MAX)]
        assert not liar.asked_more()
    assert asked == ids[:-1]
    assert done.returncode == 4
