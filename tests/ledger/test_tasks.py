"""A coroutine gives its result to a callback, once."""

import asyncio
from typing import Any

from ticketd.ledger.tasks import Tasks


async def test_the_callback_gets_the_result_or_the_exception() -> None:
    tasks, results = Tasks(), list[Any]()
    error = ValueError("a bug")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    tasks.run(asyncio.sleep(0, "done"), results.append)
    tasks.run(fail(), results.append)
    assert results == []
    await tasks.wait()
    assert sorted(results, key=str) == [error, "done"]


async def test_a_bug_in_the_callback_reaches_the_loop_as_that_of_a_callback() -> None:
    contexts = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: contexts.append(context))
    tasks = Tasks()

    def fail(_result: object) -> None:
        raise ValueError("a bug")

    tasks.run(asyncio.sleep(0), fail)
    await tasks.wait()
    assert [(type(context["exception"]), "handle" in context) for context in contexts] == [(ValueError, True)]


async def test_waiting_includes_what_a_callback_begins() -> None:
    tasks, results = Tasks(), list[Any]()
    tasks.run(asyncio.sleep(0, 1), lambda _: tasks.run(asyncio.sleep(0, 2), results.append))
    await tasks.wait()
    assert results == [2]
