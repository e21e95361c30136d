"""A bar that shows how far something is, where a person looks at it."""

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def with_bar(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Return the items, so many in all, with a bar on the terminal while they are used up."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, total, console=Console(stderr=True), transient=True)
