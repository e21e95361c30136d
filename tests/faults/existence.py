"""Proves that an event is there from its creation until it is deleted, and comes back only if it is created again.

Each event has one client who creates and deletes it. By that, all that anybody sees of it is right or wrong. Pure.
"""

from collections.abc import Collection, Iterable, Set
from typing import NamedTuple

from tests.faults.history import Operation, contradiction


class _Deed(NamedTuple):
    """A ``create`` or ``delete`` that may have been done. Surely, it was ``settled``, then or before."""

    place: int
    operation: Operation
    creates: bool
    settled: bool


class Existence:
    """The events that were not there at first, and what tells that they are there, or are not."""

    def __init__(self, history: Iterable[Operation], events: Collection[str]) -> None:
        self._always = events
        self._deeds: dict[str, list[_Deed]] = {}
        for operation in history:
            if operation.cmd in ("create", "delete"):
                self._add_deed(operation, events)

    @property
    def events(self) -> Set[str]:
        """Those that were not there at first."""
        return self._deeds.keys()

    def _add_deed(self, operation: Operation, events: Collection[str]) -> None:
        creates = operation.cmd == "create"
        event = str(operation.request["id" if creates else "event"])
        if event in events:
            return
        deeds = self._deeds.setdefault(event, [])
        done = operation.code is None if creates else operation.code in (None, "event_not_found")
        settled = done and not operation.unknown
        if settled or operation.unknown:
            deeds.append(_Deed(len(deeds), operation, creates, settled))

    def read(self, operation: Operation, event: str, *, exists: bool, lags: bool) -> None:
        """Check what an operation tells of an event: whether it existed, then or, if it ``lags``, at a time before."""
        if exists and event in self._always:
            return
        deeds = self._deeds.get(event, [])
        own = next((deed.place for deed in deeds if deed.operation is operation), None)
        causes = [deed for deed in deeds if deed.creates == exists]
        if not exists and event not in self._always:
            causes.insert(0, _Deed(-1, operation, False, True))
        for cause in causes:
            undone = not lags and any(_is_undone(cause, deed, operation, own) for deed in deeds)
            if _may_precede(cause, operation, own) and not undone:
                return
        raise contradiction(f"event {event} {'was not there' if exists else 'was there'}", operation)


def _may_precede(deed: _Deed, operation: Operation, own: int | None) -> bool:
    if deed.place < 0:
        return True
    return deed.operation.invoked <= operation.answered if own is None else deed.place < own


def _is_undone(cause: _Deed, deed: _Deed, operation: Operation, own: int | None) -> bool:
    """Whether an operation came surely after the opposite of a cause had been done."""
    if not deed.settled or deed.creates == cause.creates or deed.place < cause.place:
        return False
    return deed.operation.answered < operation.invoked if own is None else deed.place < own
