"""Large catalogues in events.json, at the start of daemons on PostgreSQL."""

from contextlib import ExitStack
from pathlib import Path

from tests.daemon import Daemon, running, write_events
from tests.postgres import query

EVENTS = 4_000
SLOW_EVENTS = 1_200


def write_catalogue(folder: Path, size: int) -> None:
    """Write an events.json with so many events, which differ in their ids."""
    write_events(folder, 10)
    one = (folder / "events.json").read_text().partition("[")[2].partition("]")[0]
    events = ",".join(one.replace('"ID":"1"', f'"ID":"e{number}"') for number in range(size))
    (folder / "events.json").write_text(f'{{"events":[{events}]}}')


def slow_down_new_events(folder: Path, database: str, seconds: float) -> None:
    """Make the tables, and let each event that is added take this long."""
    write_events(folder)
    with running(folder, "--ledger", database) as daemon:
        daemon.end()
    body = f"BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END"
    query(database, f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    query(database, "CREATE TRIGGER slow BEFORE INSERT ON ticketd.events FOR EACH ROW EXECUTE FUNCTION slow()")


def test_a_slow_database_takes_in_a_large_catalogue(tmp_path: Path, database: str) -> None:
    # All at once would take longer than a transaction may, which is 2 s.
    slow_down_new_events(tmp_path, database, 0.002)
    write_catalogue(tmp_path, SLOW_EVENTS)
    with running(tmp_path, "--ledger", database) as daemon, daemon.connect() as client:
        assert client.ask("stats")["events"] == SLOW_EVENTS
        assert any(f"adopting events={SLOW_EVENTS}" in line for line in daemon.lines)


def test_a_start_that_cannot_adopt_all_events_ends(tmp_path: Path, database: str) -> None:
    slow_down_new_events(tmp_path, database, 3)
    write_events(tmp_path, 10)
    file = str(tmp_path / "events.json")
    daemon = Daemon("--port", "0", "--ledger", database, "--events", file, "--queue-seconds-max", "1")
    try:
        assert daemon.wait() == 5
        said = daemon.lines[-1]
        assert said.startswith(f"ticketd: not all events of {file} are adopted (the ledger cannot be reached")
        assert said.endswith("start ticketd again, which adopts the rest")
    finally:
        daemon.kill()


def test_daemons_that_start_together_adopt_each_event_once(tmp_path: Path, database: str) -> None:
    write_catalogue(tmp_path, EVENTS)
    with ExitStack() as stack:
        daemons = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            write_catalogue(folder, EVENTS)
            daemons.append(Daemon("--port", "0", "--ledger", database, "--events", str(folder / "events.json")))
            stack.callback(daemons[-1].kill)
        for daemon in daemons:
            daemon.wait_ready()
            with daemon.connect() as client:
                assert client.ask("stats")["events"] == EVENTS
    assert query(database, "SELECT count(*) FROM ticketd.events")[0][0] == EVENTS
