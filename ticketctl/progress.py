"""A progress bar on stderr, if stderr is a terminal."""

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def with_bar(items: Iterable[T], label: str, total: int) -> Iterable[T]:
    """Return the items; while they are taken one by one, the bar moves. ``total`` is how many there are."""
    if not sys.stderr.isatty():
        return items
    # Imported here, because it takes longer than most commands.
    from rich.console import Console
    from rich.progress import track

    return track(items, label, total, console=Console(stderr=True), transient=True)
