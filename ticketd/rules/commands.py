"""Owns the table of commands: one Row per command, with everything the daemon does with it. Pure."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec import UNSET

from ticketd.model import ticket_parts
from ticketd.rules import bookings, costs, door, events, new_bookings, reading, tickets, waiting
from ticketd.rules.memory import Memory
from ticketd.rules.working_set import Adopt, LedgerRequest, Page, ReadSet, ReadWatched, WorkingSet
from ticketd.wire.replies import Reply
from ticketd.wire.requests import (
    Amend,
    Annul,
    Auth,
    Backup,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Help,
    Hold,
    List,
    Ping,
    Ready,
    Redeem,
    Reissue,
    Release,
    Show,
    Stats,
    Wait,
    Watch,
)


def _nothing(_reads: ReadSet, _request: Any) -> None: ...


def _always(_memory: Memory, _request: Any) -> bool:
    return True


class Row(NamedTuple):
    """What the daemon does with one command. It has at least one of ``decide``, ``read`` and ``answer``, but for
    ``auth``, which the session itself answers.

    **From memory**, at once, if there is ``answer`` and ``in_memory`` is true: ``answer`` returns the reply, or its
    encoded line. It may raise TicketError. If the command streams, the line is empty, and the stream begins.

    **In a commit**, in a batch with others, if there is ``decide``:

    - ``decide`` returns the reply, and changes the working set. A refused request changes nothing.
    - ``reads`` adds what it reads to the read set.
    - ``event`` returns the id of its event, in whose queue it waits. Without ``event``, ``booking`` returns the id of
      its booking, whose event may be known. If no event is known, it waits with others like it.
    - ``cost`` estimates how many rows of the ledger it reads or writes.
    - ``tickets_listed`` estimates how many tickets its reply lists, if these may be more than the cost. It limits how
      much waits for a client that does not read.
    - ``verb`` is its name in the log when it is done.
    - ``sells`` says that the tickets of its booking count as sold in ``stats``.

    **From the ledger**, between commits, if there is ``read``, which returns the reply from what ``reads`` names.

    ``shows_events`` says that due holds must be ended before it is answered from memory or by ``read``.
    """

    decide: Callable[[WorkingSet, Any], Reply] | None = None
    reads: Callable[[ReadSet, Any], None] = _nothing
    event: Callable[[Any], str] | None = None
    booking: Callable[[Any], str] | None = None
    cost: Callable[[Memory, Any], int] = costs.of_one_row
    tickets_listed: Callable[[Memory, Any], int] | None = None
    verb: str | None = None
    sells: bool = False
    read: Callable[[WorkingSet, Any], Reply] | None = None
    answer: Callable[[Memory, Any], Reply | bytes] | None = None
    in_memory: Callable[[Memory, Any], bool] = _always
    shows_events: bool = False


def _event(reads: ReadSet, request: Amend) -> None:
    reads.events.add(request.event)
    if request.per_buyer:
        reads.limited.add(request.event)
    reads.amended[request.event] = max(request.capacity or 0, reads.amended.get(request.event, 0))


def _event_to_delete(reads: ReadSet, request: Delete) -> None:
    reads.events.add(request.event)
    reads.removals.add(request.event)


def _new_event(reads: ReadSet, request: Create) -> None:
    reads.events.add(str(request.id))


def _adopted_event(reads: ReadSet, request: Adopt) -> None:
    reads.events.add(request.event.id)
    reads.removals.add(request.event.id)


def _new_booking(reads: ReadSet, request: Book | Hold | Wait) -> None:
    reads.events.add(request.event)
    reads.new_bookings.add(str(request.booking))
    if request.buyer is not UNSET:
        reads.buyers.setdefault(request.event, set()).add(request.buyer)


def _new_wait(reads: ReadSet, request: Wait) -> None:
    _new_booking(reads, request)
    reads.joining[str(request.booking)] = request.event, request.quantity


def _booking(reads: ReadSet, request: Extend) -> None:
    reads.bookings.add(request.booking)


def _booking_to_release(reads: ReadSet, request: Release) -> None:
    reads.bookings.add(request.booking)
    reads.freed.add(request.booking)


def _booking_and_buyer(reads: ReadSet, request: Confirm) -> None:
    reads.bookings.add(request.booking)
    if request.late:
        reads.buyers_of.add(request.booking)


def _booking_and_redemptions(reads: ReadSet, request: Cancel) -> None:
    reads.bookings.add(request.booking)
    reads.freed.add(request.booking)
    if request.tickets is UNSET:
        reads.redemptions_of.add(request.booking)
    else:
        reads.redemptions.update(map(ticket_parts, request.tickets))


def _ticket(reads: ReadSet, request: Redeem | Annul | Reissue) -> None:
    if (parts := ticket_parts(request.ticket))[0]:
        reads.bookings.add(parts[0])
        reads.redemptions.add(parts)


def _ticket_or_booking(reads: ReadSet, request: Redeem) -> None:
    _ticket(reads, request)
    reads.bookings.add(request.ticket)
    reads.redemptions_of.add(request.ticket)


def _anything_with_the_id(reads: ReadSet, request: Show) -> None:
    reads.events.add(request.id)
    reads.bookings.add(request.id)
    reads.redemptions_of.add(request.id)
    if (parts := ticket_parts(request.id))[0]:
        reads.bookings.add(parts[0])
        reads.redemptions.add(parts)


def _watched_booking(reads: ReadSet, request: Watch) -> None:
    reads.bookings.add(str(request.booking))
    reads.redemptions_of.add(str(request.booking))


def _watched(reads: ReadSet, request: ReadWatched) -> None:
    reads.bookings.update(request.bookings)
    reads.redemptions_of.update(request.bookings)


def _page(reads: ReadSet, request: Bookings) -> None:
    if request.event is not UNSET:
        reads.events.add(request.event)
    reads.page = Page(request.after or "", request.limit, request.event or None, request.buyer or None)


def _backup(reads: ReadSet, request: Backup) -> None:
    reads.backup = request.name


_EVENT_ID = attrgetter("event")
_BOOKING_ID = attrgetter("booking")

TABLE: dict[type, Row] = {
    List: Row(answer=reading.list_events, shows_events=True),
    Show: Row(
        read=reading.show,
        reads=_anything_with_the_id,
        answer=reading.show_event,
        in_memory=reading.is_event,
        shows_events=True,
    ),
    Create: Row(decide=events.create, reads=_new_event, event=attrgetter("id"), verb="created"),
    Book: Row(
        decide=new_bookings.book,
        reads=_new_booking,
        event=_EVENT_ID,
        cost=costs.of_quantity,
        verb="booked",
        sells=True,
        answer=new_bookings.refuse,
        in_memory=new_bookings.is_refused,
        shows_events=True,
    ),
    Hold: Row(
        decide=new_bookings.hold,
        reads=_new_booking,
        event=_EVENT_ID,
        verb="held",
        answer=new_bookings.refuse,
        in_memory=new_bookings.is_refused,
        shows_events=True,
    ),
    Wait: Row(decide=new_bookings.wait, reads=_new_wait, event=_EVENT_ID, verb="waiting"),
    Extend: Row(decide=bookings.extend, reads=_booking, booking=_BOOKING_ID, cost=costs.of_booking, verb="extended"),
    Confirm: Row(
        decide=bookings.confirm,
        reads=_booking_and_buyer,
        booking=_BOOKING_ID,
        cost=costs.of_confirm,
        tickets_listed=costs.tickets_of_confirm,
        verb="confirmed",
        sells=True,
    ),
    Release: Row(decide=bookings.release, reads=_booking_to_release, booking=_BOOKING_ID, verb="released"),
    Cancel: Row(
        decide=tickets.cancel,
        reads=_booking_and_redemptions,
        booking=_BOOKING_ID,
        cost=costs.of_cancel,
        tickets_listed=costs.tickets_of_cancel,
        verb="cancelled",
    ),
    Reissue: Row(decide=tickets.reissue, reads=_ticket, cost=costs.of_cancel, verb="reissued"),
    Redeem: Row(
        decide=door.redeem,
        reads=_ticket_or_booking,
        cost=costs.of_redeem,
        tickets_listed=costs.tickets_of_redeem,
        verb="redeemed",
    ),
    Annul: Row(decide=door.annul, reads=_ticket, cost=costs.of_booking, verb="annulled"),
    Amend: Row(decide=events.amend, reads=_event, event=_EVENT_ID, verb="amended"),
    Delete: Row(decide=events.delete, reads=_event_to_delete, event=_EVENT_ID, verb="deleted"),
    # What comes after the first reply, the connection streams.
    Watch: Row(
        read=reading.watch_booking,
        reads=_watched_booking,
        answer=reading.watch_events,
        in_memory=reading.watches_events,
        shows_events=True,
    ),
    Bookings: Row(read=reading.bookings, reads=_page, shows_events=True),
    Stats: Row(answer=reading.stats),
    # The session answers it.
    Auth: Row(),
    Ping: Row(answer=reading.ping),
    Ready: Row(answer=reading.ready),
    Help: Row(answer=reading.explain),
    Backup: Row(read=reading.backup, reads=_backup),
    # From events.json, not from a client.
    Adopt: Row(decide=events.adopt, reads=_adopted_event, event=attrgetter("event.id")),
    # For all connections that watch bookings.
    ReadWatched: Row(read=reading.read_watched, reads=_watched),
}


def read_set(requests: Iterable[LedgerRequest]) -> ReadSet:
    """Return what must be in the working set before the requests can be answered."""
    reads = ReadSet()
    for request in requests:
        TABLE[type(request)].reads(reads, request)
    return reads


def decide_all(
    working_set: WorkingSet, requests: Sequence[LedgerRequest], actors: Iterable[str | None] | None = None
) -> list[Reply]:
    """Decide the requests in order and return their replies. Holds that have run out go back on sale first.

    What becomes available is offered to those who wait in line before the next request is decided. ``actors`` are the
    names of those who sent the requests, if any are known.
    """
    if working_set.due:
        bookings.expire_due(working_set)
    if working_set.waiting_lists:
        waiting.serve_all(working_set)
    replies: list[Reply] = []
    actors = repeat(None, len(requests)) if actors is None else actors
    for request, working_set.actor in zip(requests, actors, strict=True):
        replies.append(TABLE[type(request)].decide(working_set, request))  # type: ignore[misc]
        if working_set.changed_waiting_lists:
            waiting.serve_changed(working_set)
    return replies
