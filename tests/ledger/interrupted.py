"""``ticketd move`` that sends itself a signal: ``python -m tests.ledger.interrupted STEP SIGNAL SOURCE TARGET``."""

import asyncio
import os
import sys

from ticketd import tools


def main() -> None:
    """Move, and send the signal at a step by its name or number. If there is no such step, nothing happens to it."""
    at, signum, source, target = sys.argv[1:]
    steps: list[str] = []

    def report(what: str, done: int, total: int) -> None:
        if what not in steps:
            steps.append(what)
            if at in (what, str(len(steps))):
                os.kill(os.getpid(), int(signum))

    tools._progress = lambda stack: report
    tools.main(["move", source, target], asyncio.new_event_loop)


if __name__ == "__main__":
    main()
