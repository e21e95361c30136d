"""Clients that ask for much hardly delay those who ask for little."""

import asyncio
from itertools import pairwise
from pathlib import Path

from tests.serving.conftest import on_both_loops, serving
from ticketd.serving.fair_share import ROUNDS_BETWEEN, FairShare

PIPELINES = 50
PIPELINED = 1_000
PIPELINES_SECONDS_MAX = 60.0


@on_both_loops
async def test_one_is_resumed_per_round_and_then_others_have_rounds() -> None:
    loop = asyncio.get_running_loop()
    share = FairShare()
    rounds = 0
    resumed: list[tuple[str, int]] = []

    def resume(name: str) -> None:
        resumed.append((name, rounds))
        if name == "again":
            share.wait(lambda: resume("last"))

    for name in ("again", "b", "c"):
        share.wait(lambda name=name: resume(name))  # type: ignore[misc]
    while len(resumed) < 4:
        rounds += 1
        await asyncio.sleep(0)
    assert [name for name, _ in resumed] == ["again", "b", "c", "last"]
    assert all(after - before > ROUNDS_BETWEEN for (_, before), (_, after) in pairwise(resumed))
    # When nobody waits, the next one is resumed soon.
    for _ in range(2 * ROUNDS_BETWEEN):
        await asyncio.sleep(0)
    done = loop.create_future()
    share.wait(lambda: done.set_result(None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done.done()


@on_both_loops
async def test_pipelining_clients_barely_delay_single_requests(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        service = served.service

        async def pipeline() -> None:
            client = await served.connect()
            client.send(b"x\n" * PIPELINED)
            for _ in range(PIPELINED):
                assert (await client.read())["code"] == "unknown_command"

        async with asyncio.timeout(PIPELINES_SECONDS_MAX), asyncio.TaskGroup() as tasks:
            modest = await served.connect()
            pipelines = [tasks.create_task(pipeline()) for _ in range(PIPELINES)]
            before_it = []
            while not all(pipeline.done() for pipeline in pipelines):
                before = service.requests
                assert await modest.ask("ping") == {"reply": "pong"}
                before_it.append(service.requests - before)
        assert service.requests == PIPELINES * PIPELINED + len(before_it)
        assert max(before_it) <= 5 * served.service.limits.frames_in_flight_max
