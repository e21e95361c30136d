"""``ticketd move`` that sends itself a signal at a step, in a process of its own.

For Ctrl-C it is a program: ``python -m tests.ledger.interrupted STEP SIGNAL SOURCE TARGET``.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from tests.forked import processes
from ticketd import tools
from ticketd.ledger.move import move

SECONDS_MAX = 60.0


def killed_at(step: str, source: str, target: str) -> bool:
    """Run a move that is killed at a step by its name or number. Returns False if it ended before."""
    process = processes.Process(target=_move, args=(step, source, target))
    process.start()
    process.join(SECONDS_MAX)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def _move(step: str, source: str, target: str) -> None:
    asyncio.run(move(source, target, _signal_at(step, signal.SIGKILL)))


def _signal_at(step: str, signum: int) -> Callable[[str, int, int], None]:
    steps: list[str] = []

    def report(what: str, done: int, total: int) -> None:
        if what not in steps:
            steps.append(what)
            if step in (what, str(len(steps))):
                os.kill(os.getpid(), signum)

    return report


def main() -> None:
    step, signum, source, target = sys.argv[1:]
    tools._progress = lambda stack: _signal_at(step, int(signum))
    tools.main(["move", source, target], asyncio.new_event_loop)


if __name__ == "__main__":
    main()
