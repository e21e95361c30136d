"""Owns what one connection watches: a booking, an event or all events."""

from collections.abc import Callable
from functools import partial

from ticketd.errors import TicketError
from ticketd.serving.booking_watchers import BookingWatcher
from ticketd.serving.service import Service
from ticketd.serving.session import Session
from ticketd.serving.stream import Stream
from ticketd.serving.watcher import HEARTBEAT_SECONDS
from ticketd.serving.watchers import EventWatcher
from ticketd.wire.requests import Request


class Watching:
    """Sends what changes, from the step "watch" of a session until ``stop``.

    Of events, the state comes first: ``next_state`` until it ``has_state``. A booking was shown already.

    ``interrupt`` ends the connection with an error. Raises TicketError if the event has been removed since that step,
    and ConnectionResetError if the client is gone.
    """

    def __init__(
        self, service: Service, stream: Stream, session: Session, interrupt: Callable[[TicketError], None]
    ) -> None:
        if stream.transport.is_closing():
            raise ConnectionResetError
        self._service = service
        self._events: EventWatcher | None = None
        seconds, [request] = service.limits.write_seconds_max, session.group
        # A watcher may send nothing for days. If its machine is gone, nothing acknowledges the heartbeat.
        stream.give_up_unacknowledged_after(seconds + HEARTBEAT_SECONDS)
        to = (request.tag, stream.transport, seconds, stream.cut_off)
        if session.watched:
            watcher = BookingWatcher(session.watched, lambda: session.sees_names, *to)
            service.booking_watchers.add(watcher)
            self.stop = partial(service.booking_watchers.remove, watcher)
        else:
            event: str | None = getattr(request, "event", None) or None
            removed = _removed(request, event)
            if event is not None and service.catalogue.get(event) is None:
                # While this waited for room.
                raise removed
            self._events = EventWatcher(event, *to, partial(interrupt, removed))
            service.watchers.add(self._events)
            self.stop = partial(service.watchers.remove, self._events)

    @property
    def has_state(self) -> bool:
        """Whether it has been sent the state to which later changes apply."""
        return self._events is None or self._events.has_state

    def next_state(self) -> bytes | None:
        """Return the next slice of the state, if there is one."""
        return self._service.watchers.next_state(self._events) if self._events else None


def _removed(request: Request, event: str | None) -> TicketError:
    message = f"event {event} was removed, so no more changes come"
    return TicketError("event_not_found", message, unasked=True, tag=request.tag or None)
