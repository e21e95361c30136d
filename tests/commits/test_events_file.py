import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.daemon import write_shipped_events
from tests.wire.strategies import DATES, IDS, NAMES
from ticketd.commits.events_file import FILE_BYTES_MAX, EventsFile, EventsFileError
from ticketd.model import CAPACITY_MAX, Event

REPOSITORY = Path(__file__).parents[2]
JAZZ = '{"ID":"1","Name":"Jazz","Date":"2027-03-11T20:00:00Z","TotalTickets":100,"AvailableTickets":50}'
OTHER = JAZZ.replace('"ID":"1"', '"ID":"0"')
DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)


def event(event_id: str, name: str, date: datetime, capacity: int, available: int, held: int = 0) -> Event:
    sold = capacity - available - held
    return Event(event_id, name, date, capacity, available, held, sold, 0, sold)


def read(path: Path) -> list[Event]:
    return [item.event() for item in EventsFile(path).read()]


def write(path: Path, events: list[Event]) -> None:
    file = EventsFile(path)
    file.read()
    file.write(events)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.json"


def test_the_shipped_events_file_is_read(tmp_path: Path) -> None:
    # Whoever ran a daemon in the checkout has changed what is available, and maybe added events.
    shipped = [(found.id, found.name, found.date, found.capacity) for found in read(REPOSITORY / "events.json")]
    write_shipped_events(tmp_path)
    expected = read(tmp_path / "events.json")
    assert shipped[:3] == [(found.id, found.name, found.date, found.capacity) for found in expected]
    assert expected[0] == event("1", "Event 1", datetime(2002, 3, 11, tzinfo=UTC), 100, 50)


def test_unavailable_tickets_in_the_file_count_as_sold_elsewhere(path: Path) -> None:
    path.write_text(f'{{"events":[{JAZZ}]}}')
    assert read(path) == [Event("1", "Jazz", DATE, 100, 50, 0, 50, 0, 50)]


def test_a_missing_file_is_an_empty_catalogue_and_stays_missing(path: Path) -> None:
    assert read(path) == []
    assert not path.exists()


COUNTS = st.tuples(st.integers(1, CAPACITY_MAX), st.integers(0, CAPACITY_MAX)).map(lambda two: (max(two), min(two)))
EVENTS = st.lists(
    st.builds(lambda i, name, date, counts: event(i, name, date.astimezone(UTC), *counts), IDS, NAMES, DATES, COUNTS),
    unique_by=lambda each: each.id,
    max_size=5,
)


@given(EVENTS)
def test_events_written_to_the_file_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    path.unlink(missing_ok=True)
    write(path, events)
    assert read(path) == events


def test_held_tickets_are_not_available_in_the_file(path: Path) -> None:
    write(path, [event("1", "Jazz", DATE, 100, 30, held=20)])
    assert msgspec.json.decode(path.read_bytes()) == {
        "events": [
            {
                "ID": "1",
                "Name": "Jazz",
                "Date": "2027-03-11T20:00:00Z",
                "TotalTickets": 100,
                "AvailableTickets": 30,
            }
        ]
    }


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("", 1, "the file ends too early"),
        ("[]", 1, "a catalogue is an object"),
        ('{"Events":[]}', 1, 'one field, "events"'),
        ('{"events":[]}\ntrailing', 2, "trailing"),
        (f'{{"events":[\n{JAZZ}\n{JAZZ}]}}', 3, "expected ','"),
        (f'{{"events":[\n{JAZZ},\n\n5]}}', 4, "an event must be an object"),
        ("\n\n" + JAZZ, 1, "a catalogue is an object"),
        *[
            (f'{{"events":[\n{OTHER},\n{JAZZ.replace(good, bad)}]}}', 3, says)
            for good, bad, says in [
                ('"ID":"1"', '"ID":1', "ID must be a string, in quotes, not 1"),
                ('"ID":"1"', '"ID":"a b"', "ID"),
                ('"ID":"1",', "", "an event needs ID: 1 to 64 of"),
                ('"ID":"1",', '"ID":"1","Price":5,', 'an event has no field "Price"; it has ID, Name, Date'),
                ("Jazz", "", "name must be"),
                ("Jazz", r"\u001b[2J", "U+001B"),
                ("20:00:00Z", "20:00:00", "Date"),
                (":100", ":0", "TotalTickets"),
                (":100", ":1.5", "TotalTickets must be a whole number from 1 to 1000000000, not 1.5"),
                (":100", ":" + "1" * 5_000, "TotalTickets must be a whole number"),
                (":100", ":49", "more than TotalTickets, 49"),
                (":50", ":-1", "AvailableTickets"),
                (":50", ":101", "AvailableTickets is 101"),
                (":50", ':"50"', "AvailableTickets"),
            ]
        ],
    ],
)
def test_an_invalid_events_file_is_refused_with_line_and_reason(path: Path, content: str, line: int, says: str) -> None:
    path.write_text(content)
    with pytest.raises(EventsFileError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert says in str(raised.value).removeprefix(str(path))
    assert path.read_text() == content


@pytest.mark.parametrize("content", [b'{"events":[{"ID":"\xff"}]}', b"\xff\xfe{", b"[" * 100_000])
def test_a_file_that_is_not_text_or_too_deep_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EventsFileError, match=f"^{path}:1: "):
        read(path)


def test_an_id_that_appears_twice_is_refused(path: Path) -> None:
    path.write_text(f'{{"events":[\n{JAZZ},\n{OTHER},\n{JAZZ}]}}')
    with pytest.raises(EventsFileError, match=f"^{path}:4: the ID 1 is used twice; the other one is in line 2"):
        read(path)


def test_a_byte_order_mark_is_skipped(path: Path) -> None:
    path.write_text(f'{{"events":[{JAZZ}]}}', encoding="utf-8-sig")
    assert [found.id for found in read(path)] == ["1"]


def test_an_unreadable_events_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EventsFileError, match=f"cannot read {tmp_path} "):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", ['{"events":[{"ID":5}, junk', '{"events":[{"ID":5},' + "[" * 5_000, '{"events":' + "[" * 9_999]
)
def test_a_file_both_invalid_and_malformed_is_refused(path: Path, content: str) -> None:
    path.write_text('{"events":' + content)
    with pytest.raises(EventsFileError, match=r"events.json:1: "):
        read(path)


def test_a_file_read_but_not_used_counts_as_changed(path: Path) -> None:
    path.write_text(f'{{"events":[{JAZZ}]}}')
    file = EventsFile(path)
    file.read()
    file.forget()
    assert file.changed()


@pytest.mark.parametrize("content", ['{"events":[{"ID":"1"}]}', '{"events":[', "", f'{{"events":[{JAZZ},{JAZZ}]}}'])
def test_an_invalid_file_is_not_overwritten_until_it_is_fixed(path: Path, content: str) -> None:
    path.write_text(content)
    file = EventsFile(path)
    with pytest.raises(EventsFileError):
        file.read()
    with pytest.raises(EventsFileError):
        file.write([event("2", "Rock", DATE, 9, 9)])
    assert path.read_text() == content
    path.write_text('{"events":[ ]}')
    assert file.changed()
    file.read()
    file.write([event("2", "Rock", DATE, 9, 9)])
    assert [each.id for each in read(path)] == ["2"]


def test_changes_by_others_are_noticed_and_our_own_are_not(path: Path) -> None:
    file = EventsFile(path)
    seen = []
    for step in (
        lambda: file.read(),
        lambda: path.write_text(f'{{"events":[{JAZZ}]}}'),
        lambda: file.read(),
        lambda: file.write([event("2", "Rock", DATE, 9, 9)]),
        lambda: path.unlink(),
        lambda: file.read(),
    ):
        step()
        seen.append(file.changed())
    assert seen == [False, True, False, False, True, False]


def test_writing_the_same_content_leaves_the_file_alone(path: Path) -> None:
    path.write_text(f'{{"events":[{JAZZ}]}}')
    before = path.stat()
    file = EventsFile(path)
    file.write([item.event() for item in file.read()])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert path.read_text() == f'{{"events":[{JAZZ}]}}'


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_writing_keeps_the_mode_and_leaves_no_other_files(path: Path, mode: int) -> None:
    path.write_text('{"events":[]}')
    path.chmod(mode)
    write(path, [event("1", "Jazz", DATE, 9, 9)])
    assert path.stat().st_mode & 0o777 == mode
    assert list(path.parent.iterdir()) == [path]


def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    write(path, [event("1", "Jazz", DATE, 9, 9)])
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_writing_keeps_the_owner_and_the_group(path: Path) -> None:
    path.write_text('{"events":[]}')
    os.chown(path, 12_345, 12_346)
    write(path, [event("1", "Jazz", DATE, 9, 9)])
    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 12_346)


def test_a_file_too_large_to_be_read_is_not_written(path: Path) -> None:
    path.write_text(f'{{"events":[{JAZZ}]}}')
    file = EventsFile(path)
    file.read()
    # The same event over and over: no ledger has that, but it is quickly made.
    with pytest.raises(OSError, match="larger than 64 MiB"):
        file.write([event("1", '"' * 200, DATE, CAPACITY_MAX, 1)] * 130_000)
    assert path.read_text() == f'{{"events":[{JAZZ}]}}'
    assert list(path.parent.iterdir()) == [path]


def test_the_largest_catalogue_can_be_written_and_read(path: Path) -> None:
    largest = [event("e" * 59 + f"{number:05}", '"' * 200, DATE, CAPACITY_MAX, CAPACITY_MAX) for number in range(100)]
    write(path, largest)
    assert path.stat().st_size * 1_000 < FILE_BYTES_MAX
    assert read(path) == largest


def test_a_reader_with_the_old_file_open_still_reads_all_of_it(path: Path) -> None:
    content = f'{{"events":[{JAZZ}]}}'
    path.write_text(content)
    with path.open() as old:
        write(path, [])
        assert old.read() == content
    assert read(path) == []


def test_writing_goes_through_a_symbolic_link(tmp_path: Path, path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.json"
    target.parent.mkdir()
    target.write_text('{"events":[]}')
    path.symlink_to(target)
    write(path, [event("1", "Jazz", DATE, 9, 9)])
    assert path.is_symlink()
    assert not target.is_symlink()
    assert read(target) == read(path) == [event("1", "Jazz", DATE, 9, 9)]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    path.write_text(f'{{"events":[{JAZZ}]}}')
    file = EventsFile(path)
    file.read()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            file.write([event("2", "Rock", DATE, 9, 9)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == f'{{"events":[{JAZZ}]}}'
    assert list(path.parent.iterdir()) == [path]
    file.write([event("2", "Rock", DATE, 9, 9)])
    assert [each.id for each in read(path)] == ["2"]


def test_a_file_changed_by_somebody_else_is_not_overwritten(path: Path) -> None:
    path.write_text(f'{{"events":[{JAZZ}]}}')
    file = EventsFile(path)
    file.read()
    path.write_text('{"events":[ ]}')
    assert not file.write([event("2", "Rock", DATE, 9, 9)])
    assert path.read_text() == '{"events":[ ]}'
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert file.changed()
