"""ticketd with a bug in one part, which BROKEN names: ``python -m tests.broken``. The file TRIGGER sets it off."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ticketd import cli
from ticketd.commits.committer import Committer
from ticketd.commits.file_sync import FileSync
from ticketd.commits.queues import Batch
from ticketd.commits.reader import Reader
from ticketd.serving.fair_share import FairShare
from ticketd.serving.session import Session
from ticketd.serving.watchers import Watchers

PARTS: dict[str, tuple[Any, str]] = {
    "committer": (Batch, "deliver"),
    "commits": (Committer, "_begin_scheduled"),
    "reader": (Reader, "_read_scheduled"),
    "slices": (Reader, "read_slice"),
    "watchers": (Watchers, "_send"),
    "fair share": (FairShare, "_run_round"),
    "session": (Session, "step"),
    "file sync": (FileSync, "_step"),
}


def buggy(method: Callable[..., Any], trigger: Path) -> Callable[..., Any]:
    """Return the method, which fails once there is a file ``trigger``."""

    def run(*arguments: Any, **more: Any) -> Any:
        if trigger.exists():
            raise RuntimeError("a bug that a test made")
        return method(*arguments, **more)

    return run


def main() -> None:
    part, name = PARTS[os.environ["BROKEN"]]
    setattr(part, name, buggy(getattr(part, name), Path(os.environ["TRIGGER"])))
    cli.main()


if __name__ == "__main__":
    main()
