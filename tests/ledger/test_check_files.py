"""``ticketd check`` of the files of an embedded ledger: flipped bytes, what was cut, and nothing is changed."""

import asyncio
import random
import re
import shutil
from pathlib import Path

from tests.daemon import running, write_events
from tests.ledger.sale import ticketd
from ticketd.ledger.check import check

PAGE_BYTES = 4_096
BOOK = '{"cmd":"book","event":"jazz","quantity":2}'


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return what is in the files of a folder, and when it was written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def checked(ledger: str) -> tuple[int, list[str], str]:
    """Check a ledger; return the status, what was said, and why it was refused. Nothing in its folder changes."""
    before = state_of(Path(ledger).parent)
    done = ticketd("check", ledger)
    assert state_of(Path(ledger).parent) == before
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


def book(ledger: str, folder: Path, count: int, *, ends: bool = False) -> None:
    """Sell from the ledger; the daemon ends in good order, or is killed."""
    write_events(folder)
    with running(folder, "--ledger", ledger) as daemon, daemon.connect() as connection:
        for _ in range(count):
            assert connection.ask(BOOK)["reply"] == "booking"
        if ends:
            assert daemon.end() == 0


def test_a_whole_ledger_is_whole_and_is_not_changed(sale: str) -> None:
    status, lines, error = checked(sale)
    assert (status, error) == (0, "")
    assert lines[0] == f"ledger: {sale}, embedded, schema 7"
    assert re.fullmatch(r"pages: \d+ in the file, 0 in the log; each has its checksum", lines[1])
    assert re.fullmatch(r"seal: (\d+) commits acknowledged, \1 in the ledger; none is missing", lines[2])
    assert lines[3] == "integrity: SQLite's own check; ok"


def test_a_ledger_with_a_log_is_read_with_it_and_kept(sale: str, tmp_path: Path) -> None:
    book(sale, tmp_path, 1)
    status, lines, error = checked(sale)
    assert (status, error) == (0, "")
    assert re.fullmatch(r"pages: \d+ in the file, [1-9]\d* in the log; each has its checksum", lines[1])
    assert lines[6].startswith("tickets: 1,017 (")


def test_a_ledger_that_is_served_is_not_checked(sale: str, tmp_path: Path) -> None:
    write_events(tmp_path)
    with running(tmp_path, "--ledger", sale) as daemon:
        done = ticketd("check", sale)
        assert (done.returncode, done.stdout) == (5, "")
        assert "is being served; check a backup of it (ticketctl backup)" in done.stderr
        with daemon.connect() as connection:
            assert connection.ask(BOOK)["reply"] == "booking"


def test_what_is_no_ledger_is_refused(database: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no ledger, however long it goes on. " * 200)
    for ledger, reason in (
        (str(tmp_path / "missing.db"), "there is no ledger"),
        (str(tmp_path), f"{tmp_path} is a folder, not a ledger"),
        (str(tmp_path / "text.db"), "is not a ledger of ticketd"),
        (database, "there is no ledger in the database"),
        ("postgresql://127.0.0.1:1/none", "cannot reach the database"),
    ):
        done = ticketd("check", ledger)
        assert (done.returncode, done.stdout) == (5, ""), ledger
        assert re.fullmatch(f"ticketd: .*{reason}.*\n", done.stderr), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]


def test_a_byte_that_was_flipped_anywhere_is_found(sale: str, chance: random.Random) -> None:
    path = Path(sale)
    whole = path.read_bytes()
    for page in chance.sample(range(1, len(whole) // PAGE_BYTES), 6):
        flipped = bytearray(whole)
        flipped[page * PAGE_BYTES + chance.randrange(PAGE_BYTES)] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        status, lines, error = checked(sale)
        assert status == 5
        assert f"wrong: page {page + 1} of events.db: a page has a wrong checksum" in lines
        assert lines[-1].startswith("not whole: ")
        assert error.count("\n") == 1
    flipped = bytearray(whole)
    flipped[200] ^= 1
    path.write_bytes(flipped)
    status, lines, _ = checked(sale)
    assert (status, lines[1]) == (5, "wrong: page 1 of events.db: a page has a wrong checksum")


def test_a_page_of_zeros_is_found(sale: str) -> None:
    # It has the checksum of zeros.
    path = Path(sale)
    whole = path.read_bytes()
    for page in range(1, len(whole) // PAGE_BYTES):
        path.write_bytes(whole[: page * PAGE_BYTES] + bytes(PAGE_BYTES) + whole[(page + 1) * PAGE_BYTES :])
        said: list[str] = []
        assert asyncio.run(check(sale, said.append)).wrong > 0, page
        assert said[-1].startswith("not whole: ")
        assert not [line for line in said if "\n" in line]


def test_a_file_that_was_cut_is_found(sale: str) -> None:
    path = Path(sale)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) - PAGE_BYTES, PAGE_BYTES, PAGE_BYTES // 2, 60):
        path.write_bytes(whole[:size])
        status, lines, error = checked(sale)
        assert status == 5, size
        assert lines[-1].startswith("not whole: ") or "is damaged" in error, (size, lines, error)


def test_a_seal_that_was_cut_lost_or_is_newer_is_found(sale: str) -> None:
    seal = Path(f"{sale}-seal")
    whole = seal.read_bytes()
    old = Path(sale).read_bytes()
    for damage, words in (
        (b"", "its seal is missing"),
        (whole[:20], "its seal is damaged"),
        (whole.replace(b"ticketd", b"tickets"), "its seal is damaged"),
    ):
        seal.write_bytes(damage)
        status, lines, _ = checked(sale)
        assert (status, lines[-1]) == (5, "not whole: 1 wrong")
        assert lines[2].startswith(f"wrong: the ledger {sale}: {words}")
    seal.unlink()
    assert checked(sale)[0] == 5
    assert not seal.exists()
    seal.write_bytes(whole)
    book(sale, Path(sale).parent, 1, ends=True)
    Path(sale).write_bytes(old)
    status, lines, error = checked(sale)
    assert status == 5
    assert "it lacks 1 of " in lines[2]
    assert error == (
        f"ticketd: {sale} lacks 1 commit, and nothing else is wrong; put back newer files, or start ticketd once with"
        " --accept-losses\n"
    )


def test_a_log_that_was_cut_is_found(sale: str, tmp_path: Path) -> None:
    book(sale, tmp_path, 3)
    log = Path(f"{sale}-wal")
    log.write_bytes(log.read_bytes()[:-100])
    status, lines, _ = checked(sale)
    assert status == 5
    assert "it lacks 1 of " in lines[2]


def test_a_log_of_another_file_is_found(sale: str, tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    shutil.copy(sale, older)
    for ends in (True, False):
        book(sale, tmp_path, 3, ends=ends)
    shutil.copy(older, sale)
    status, lines, _ = checked(sale)
    assert status == 5
    assert "do not belong together" in "".join(lines)
