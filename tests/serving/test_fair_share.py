"""Clients that ask for much hardly delay those who ask for little."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from tests.serving.conftest import Client, on_both_loops, serving
from ticketd.serving.connection import AT_ONCE_OUTPUT_BYTES_MAX
from ticketd.serving.fair_share import ROUNDS_BETWEEN, FairShare
from ticketd.serving.stream import Stream

PIPELINES = 50
READERS, LONG_REPLIES, LISTED = 25, 4, 250
# From a request to its reply it is a few rounds of the loop, with those that the test takes itself.
LONG_REPLIES_BEFORE_IT_MAX = 2
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


@pytest.mark.parametrize("line", ["list", "watch", "show large", "bookings"])
@on_both_loops
async def test_readers_of_long_replies_barely_delay_single_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    sent = [0]
    send = Stream.send

    def count(stream: Stream, output: list[bytes]) -> None:
        sent[0] += sum(map(len, output)) > AT_ONCE_OUTPUT_BYTES_MAX
        send(stream, output)

    monkeypatch.setattr(Stream, "send", count)
    async with serving(tmp_path, events=LISTED) as served:

        async def read(client: Client) -> None:
            for _ in range(LONG_REPLIES):
                client.send(f"{line}\n".encode())
                for _ in range(LISTED if line == "watch" else 1):
                    assert (await client.read())["reply"] != "error"

        modest = await served.connect()
        large = "large".ljust(64, "-")
        assert (await modest.ask(f"book 1 1000 --booking {large}"))["state"] == "confirmed"
        line = line.replace("large", large)
        readers = [await served.connect() for _ in range(READERS)]
        before_it = []
        async with asyncio.timeout(PIPELINES_SECONDS_MAX), asyncio.TaskGroup() as tasks:
            # They all ask before the loop runs again.
            reading = [tasks.create_task(read(reader)) for reader in readers]
            while not all(reader.done() for reader in reading):
                before = sent[0]
                assert await modest.ask("ping") == {"reply": "pong"}
                before_it.append(sent[0] - before)
        assert sent[0] >= READERS * LONG_REPLIES
        assert max(before_it) <= LONG_REPLIES_BEFORE_IT_MAX
