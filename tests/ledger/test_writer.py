"""The thread that writes: one piece of work at a time, each with a deadline that a sleeping machine does not pass."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from ticketd.ledger.base import LedgerFailedError
from ticketd.ledger.embedded.writer import EXTENSION_SECONDS, Writer

SECONDS_MAX = 1_000.0


class MovableLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved, as it seems to a machine that was asleep."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead

    async def move(self, seconds: float) -> None:
        """Move the clock, and let all that is due by then happen."""
        self.ahead += seconds
        passed = self.create_future()
        self.call_at(self.time(), passed.set_result, None)
        await passed


class Ended:
    """What a writer says of a piece of work, and how often."""

    def __init__(self) -> None:
        self.errors: list[Exception | None] = []
        self._event = asyncio.Event()

    def __call__(self, error: Exception | None) -> None:
        self.errors.append(error)
        self._event.set()

    async def error(self) -> Exception | None:
        """Wait for it."""
        await self._event.wait()
        return self.errors[0]


class Stuck:
    """Work that waits until it may go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.may_end.wait(60)
        self.ended.set()


def nothing() -> None: ...


def with_writer(test: Callable[[Writer, MovableLoop], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a loop whose clock can be moved, with a writer."""

    async def run(loop: MovableLoop) -> None:
        writer = Writer(SECONDS_MAX)
        try:
            await test(writer, loop)
        finally:
            writer.close()
        await asyncio.to_thread(writer._thread.join, 60)
        assert not writer._thread.is_alive()

    def test_on_loop() -> None:
        with asyncio.Runner(loop_factory=MovableLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, MovableLoop)
            runner.run(run(loop))

    test_on_loop.__name__ = test.__name__
    return test_on_loop


@with_writer
async def test_work_is_done_elsewhere_and_told_on_the_loop(writer: Writer, loop: MovableLoop) -> None:
    threads: list[threading.Thread] = []
    told = loop.create_future()

    def done(error: Exception | None) -> None:
        threads.append(threading.current_thread())
        told.set_result((error, writer.busy))

    writer.start(lambda: threads.append(threading.current_thread()), done)
    assert writer.busy
    assert await told == (None, False)
    assert threads == [writer._thread, threading.current_thread()]


@with_writer
async def test_what_work_raises_is_told(writer: Writer, loop: MovableLoop) -> None:
    def fail() -> None:
        raise LedgerFailedError("the disk is on fire")

    ended = Ended()
    writer.start(fail, ended)
    assert str(await ended.error()) == "the disk is on fire"
    with pytest.raises(LedgerFailedError, match="on fire"):
        await writer.do(fail)
    await writer.do(nothing)
    assert not writer.busy


@with_writer
async def test_a_done_may_begin_the_next_piece_of_work(writer: Writer, loop: MovableLoop) -> None:
    ended = Ended()

    def next_one(error: Exception | None) -> None:
        writer.start(nothing, ended)

    writer.start(nothing, next_one)
    assert await ended.error() is None


@with_writer
async def test_a_disk_that_does_not_answer_in_time_has_failed(writer: Writer, loop: MovableLoop) -> None:
    ended, stuck = Ended(), Stuck()
    writer.start(stuck, ended)
    await asyncio.to_thread(stuck.begun.wait)
    await loop.move(SECONDS_MAX)
    assert ended.errors == [], "a machine that was asleep gives its disk a moment"
    assert writer.busy
    await loop.move(EXTENSION_SECONDS)
    error = await ended.error()
    assert isinstance(error, LedgerFailedError)
    assert str(error) == "the disk did not answer within 1000 s"
    assert not writer.busy
    # What the thread says when the disk answers after all is nobody's.
    stuck.may_end.set()
    await writer.do(nothing)
    assert ended.errors == [error]


@with_writer
async def test_a_disk_that_answers_after_sleep_has_not_failed(writer: Writer, loop: MovableLoop) -> None:
    ended, stuck = Ended(), Stuck()
    writer.start(stuck, ended)
    await loop.move(SECONDS_MAX + 86_400)
    stuck.may_end.set()
    assert await ended.error() is None
    await loop.move(EXTENSION_SECONDS)
    assert ended.errors == [None]


@with_writer
async def test_each_piece_of_work_has_all_of_the_time(writer: Writer, loop: MovableLoop) -> None:
    for _ in range(3):
        ended, stuck = Ended(), Stuck()
        writer.start(stuck, ended)
        await loop.move(SECONDS_MAX * 0.9)
        assert ended.errors == []
        stuck.may_end.set()
        assert await ended.error() is None
    # Time passes without work: nothing is late.
    await loop.move(SECONDS_MAX * 2)
    await writer.do(nothing)


@with_writer
async def test_a_second_sleep_does_not_use_up_the_moment(writer: Writer, loop: MovableLoop) -> None:
    for _ in range(2):
        ended, stuck = Ended(), Stuck()
        writer.start(stuck, ended)
        await loop.move(SECONDS_MAX)
        assert ended.errors == [], "each piece of work has its own moment"
        stuck.may_end.set()
        assert await ended.error() is None


def test_a_disk_may_answer_when_the_loop_is_gone() -> None:
    stuck = Stuck()

    async def begin() -> Writer:
        writer = Writer(SECONDS_MAX)
        writer.start(stuck, partial(pytest.fail))
        return writer

    writer = asyncio.run(begin())
    stuck.may_end.set()
    assert stuck.ended.wait(60)
    writer.close()
    writer._thread.join(60)
    assert not writer._thread.is_alive()
