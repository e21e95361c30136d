"""Time that tests move."""

from datetime import UTC, datetime, timedelta

_BEGINNING = datetime.fromtimestamp(0, UTC)


class Clock:
    """A clock that stands still until it is moved. It shows milliseconds since 1970, rounded down as ledgers do."""

    def __init__(self) -> None:
        self.time = datetime(2027, 1, 1, tzinfo=UTC)

    def __call__(self) -> int:
        return (self.time - _BEGINNING) // timedelta(milliseconds=1)

    def move(self, seconds: float) -> None:
        """Let time pass, or go back."""
        self.time += timedelta(seconds=seconds)
