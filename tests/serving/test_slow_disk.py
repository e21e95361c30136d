"""While a sync hangs, what is in memory is answered, and bookings wait and are told the truth."""

import asyncio
from pathlib import Path

from tests.daemon import unasked
from tests.faketime import Clock
from tests.faults.disk import RealDisk
from tests.serving.conftest import on_both_loops, serving, until
from ticketd.config import Limits


@on_both_loops
async def test_while_a_sync_hangs_what_is_in_memory_is_answered(tmp_path: Path, disk: RealDisk) -> None:
    async with serving(tmp_path) as served:
        visitor = await served.connect()
        booked = await visitor.ask("book 1 3 --booking before")
        disk.sync_may_end.clear()
        buyer = await served.connect()
        buyer.send(b"book 1 2 --booking mine\n")
        await until(lambda: served.service.requests == 2)
        for line, reply in {
            "ping": "pong",
            "ready": "ready",
            "list": "events",
            "show 1": "event",
            "help": "help",
            "x": "error",
        }.items():
            assert (await visitor.ask(line))["reply"] == reply
        # Only what is durable is shown.
        assert (await visitor.ask("show 1"))["sold"] == 3
        assert (await visitor.ask("watch 1"))["sold"] == 3
        visitor.send(b"show mine\nshow before\nping\n")
        await until(lambda: len(served.committer.reader) == 1)
        disk.sync_may_end.set()
        changed = await visitor.read()
        while changed["reply"] == "event":
            assert changed["sold"] == 5
            changed = await visitor.read()
        assert changed == await buyer.read()
        assert await visitor.read() == booked
        assert await visitor.read() == {"reply": "pong"}


@on_both_loops
async def test_bookings_behind_a_hanging_sync_are_told_the_truth(tmp_path: Path, disk: RealDisk) -> None:
    async with serving(tmp_path, Limits(queue_seconds_max=0.2)) as served:
        disk.sync_may_end.clear()
        first, second = await served.connect(), await served.connect()
        first.send(b"book 1 2 --booking first\n")
        await until(lambda: served.service.requests == 1)
        await asyncio.sleep(0)
        refused = await second.ask("book 1 3 --booking second")
        assert (refused["code"], refused["retry_after"]) == ("busy", 1)
        assert await second.ask("ping") == {"reply": "pong"}
        disk.sync_may_end.set()
        assert (await first.read())["version"] == 1
        assert (await second.ask("show second"))["code"] == "not_found"
        assert (await second.ask("book 1 3 --booking second"))["version"] == 2


@on_both_loops
async def test_a_hold_that_runs_out_while_a_sync_hangs_stops_nobody(tmp_path: Path, disk: RealDisk) -> None:
    clock = Clock()
    async with serving(tmp_path, clock=clock) as served:
        visitor, buyer = await served.connect(), await served.connect()
        await visitor.ask("hold 1 4 --seconds 60 --booking h")
        disk.sync_may_end.clear()
        buyer.send(b"book 1 2\n")
        await until(lambda: served.service.requests == 2)
        await asyncio.sleep(0)
        clock.move(60)
        # It is still held: what is not durable is not true yet.
        for line in ("show 1", "show 1", "list"):
            shown = await visitor.ask(line)
            assert (shown.get("events") or [shown])[0]["held"] == 4
        disk.sync_may_end.set()
        assert (await buyer.read())["reply"] == "booking"
        assert (await visitor.ask("show 1"))["held"] == 0


@on_both_loops
async def test_a_drain_waits_for_the_commit_that_hangs(tmp_path: Path, disk: RealDisk) -> None:
    async with serving(tmp_path) as served:
        idle = await served.connect()
        assert await idle.ask("ping") == {"reply": "pong"}
        disk.sync_may_end.clear()
        buyer = await served.connect()
        buyer.send(b"book 1 1\nready\nlist\n")
        await until(lambda: served.service.requests == 4)
        draining = asyncio.create_task(served.server.drain(20))
        assert unasked(await idle.read()) == "shutting_down"
        assert not draining.done()
        disk.sync_may_end.set()
        booked, ready, listed, ended = [await buyer.read() for _ in range(4)]
        assert (booked["reply"], listed["reply"]) == ("booking", "events")
        assert ended == {**ready, "unasked": True}
        assert ready["code"] == "shutting_down"
        assert await buyer.rest() == b""
        await draining
