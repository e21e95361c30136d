"""Proves that an event is there from its creation until it is deleted, and comes back only if it is created again.

Each event has one client who creates and deletes it. By that, all that anybody sees of it is right or wrong. Pure.
"""

from collections.abc import Collection, Iterable, Set
from typing import NamedTuple

from tests.faults.history import Operation, contradiction


class _Write(NamedTuple):
    """A ``create`` or ``delete`` that may have been done. If ``settled``, it was done, by this request or before it."""

    place: int
    operation: Operation
    creates: bool
    settled: bool


class Existence:
    """The events that were not there at first, and what tells that they are there, or are not."""

    def __init__(self, history: Iterable[Operation], events: Collection[str]) -> None:
        self._always = events
        self._writes: dict[str, list[_Write]] = {}
        for operation in history:
            if operation.cmd in ("create", "delete"):
                self._add_write(operation, events)

    @property
    def events(self) -> Set[str]:
        """Those that were not there at first."""
        return self._writes.keys()

    def _add_write(self, operation: Operation, events: Collection[str]) -> None:
        creates = operation.cmd == "create"
        event = str(operation.request["id" if creates else "event"])
        if event in events:
            return
        writes = self._writes.setdefault(event, [])
        done = operation.code is None if creates else operation.code in (None, "event_not_found")
        settled = done and not operation.unknown
        if settled or operation.unknown:
            writes.append(_Write(len(writes), operation, creates, settled))

    def read(self, operation: Operation, event: str, *, exists: bool, lags: bool) -> None:
        """Check what an operation tells of an event: whether it existed, then or, if it ``lags``, at a time before."""
        if exists and event in self._always:
            return
        writes = self._writes.get(event, [])
        own = next((write.place for write in writes if write.operation is operation), None)
        causes = [write for write in writes if write.creates == exists]
        if not exists and event not in self._always:
            causes.insert(0, _Write(-1, operation, False, True))
        for cause in causes:
            undone = not lags and any(_is_undone(cause, write, operation, own) for write in writes)
            if _may_precede(cause, operation, own) and not undone:
                return
        raise contradiction(f"event {event} {'was not there' if exists else 'was there'}", operation)


def _may_precede(write: _Write, operation: Operation, own: int | None) -> bool:
    if write.place < 0:
        return True
    return write.operation.invoked <= operation.answered if own is None else write.place < own


def _is_undone(cause: _Write, write: _Write, operation: Operation, own: int | None) -> bool:
    """Whether an operation surely began after a later write had undone the cause."""
    if not write.settled or write.creates == cause.creates or write.place < cause.place:
        return False
    return write.operation.answered < operation.invoked if own is None else write.place < own
