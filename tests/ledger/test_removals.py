"""Events that one daemon deletes, as the others on the same PostgreSQL see it."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import asyncpg

from tests.daemon import Daemon, running, until, write_events

DATE = "2027-03-11T20:00:00Z"


def both(folder: Path, database: str, stack: ExitStack) -> tuple[Daemon, Daemon]:
    """Run two daemons on one ledger, with a file each."""
    daemons = []
    for name in ("here", "there"):
        (folder / name).mkdir()
        write_events(folder / name)
        daemons.append(stack.enter_context(running(folder / name, "--ledger", database)))
    return daemons[0], daemons[1]


def test_a_deletion_reaches_the_other_daemon_and_its_file(tmp_path: Path, database: str) -> None:
    with ExitStack() as stack:
        here, there = both(tmp_path, database, stack)
        mine, theirs, watcher = [stack.enter_context(each.connect()) for each in (here, there, there)]
        for event in ("wrong", "right"):
            mine.ask(f"create Jazz {DATE} 5 --id {event}")
        until(lambda: len(theirs.events()) == 2)
        file = tmp_path / "there" / "events.json"
        until(lambda: b'"wrong"' in file.read_bytes())
        assert watcher.ask("watch wrong")["id"] == "wrong"
        mine.ask("delete wrong")
        assert watcher.read()["code"] == "event_not_found"
        assert [event["id"] for event in theirs.events()] == ["right"]
        until(lambda: b'"wrong"' not in file.read_bytes())
        assert theirs.ask("book wrong 1")["code"] == "event_not_found"
        # It comes back as another event.
        mine.ask(f"create Rock {DATE} 7 --id wrong")
        until(lambda: [event["name"] for event in theirs.events()] == ["Jazz", "Rock"])
        assert theirs.ask("book wrong 1")["available"] == 6


def test_an_old_transaction_does_not_repeat_a_deletion(tmp_path: Path, database: str) -> None:
    async def sell_beside_it() -> None:
        connection = await asyncpg.connect(database)
        # What is newer than it is reported by each poll.
        await connection.execute("BEGIN; CREATE TEMP TABLE busy (x int)")
        try:
            await asyncio.to_thread(sell)
        finally:
            await connection.close()

    def sell() -> None:
        with ExitStack() as stack:
            here, there = both(tmp_path, database, stack)
            mine, theirs, watcher = [stack.enter_context(each.connect()) for each in (here, there, there)]
            mine.ask(f"create Jazz {DATE} 5 --id again")
            mine.ask("delete again")
            mine.ask(f"create Rock {DATE} 7 --id again")
            mine.ask(f"create Pop {DATE} 7 --id last")
            until(lambda: [event["id"] for event in theirs.events()] == ["again", "last"])
            assert watcher.ask("watch again")["name"] == "Rock"
            for number in range(1, 5):
                mine.ask("book again 1")
                # A few polls later.
                while (told := watcher.read()).get("version") != number:
                    assert told["reply"] == "event", "the deletion was long ago"
            assert [event["id"] for event in theirs.events()] == ["again", "last"]
            assert sum("were removed" in line for line in there.lines) <= 1

    asyncio.run(sell_beside_it())
