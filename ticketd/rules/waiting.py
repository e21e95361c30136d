"""Decides how far a batch reads each line, and offers what becomes available to those who wait in it. Pure.

After each request, as long as an event is on sale, the first booking in its line whose whole quantity is available gets
its tickets: they are held for it. So smaller parties may overtake a large one. What stays available is less than any of
them waits for, and may be sold to anybody.
"""

from collections import Counter
from collections.abc import Mapping

from ticketd.model import Booking, Change, Event
from ticketd.rules.waiting_list import OFFERED_PER_BATCH_MAX
from ticketd.rules.working_set import ReadSet, WorkingSet


def offer_budgets(reads: ReadSet, events: Mapping[str, Event], working_set: WorkingSet) -> dict[str, int]:
    """Return how many tickets of each event with a line a batch may offer, which is how far it reads the line.

    Each event gets all that it needs, up to OFFERED_PER_BATCH_MAX. Once that many are given out, the others get
    nothing in this batch. Events in ``turns`` come first, since any batch may name the others again; then those
    that need least, so that they do not wait for the many batches of a large one. ``due`` and the bookings of the
    read set must be in the working set.
    """
    ids = reads.events.union([booking.event for booking in working_set.bookings.values()])
    waited_for = [event for id in ids if (event := events.get(id)) and event.waiting]
    if not waited_for:
        return {}
    freed = Counter(working_set.due)
    for id in reads.freed:
        # A booking that leaves the line lets others move up. One that joins may get tickets now, and be released again.
        if booking := working_set.bookings.get(id):
            freed[booking.event] += booking.quantity
        elif joins := reads.joining.get(id):
            freed[joins[0]] += joins[1]
    budgets: dict[str, int] = {}
    for event in waited_for:
        added = reads.amended.get(event.id, 0) - event.capacity
        budgets[event.id] = event.available + freed[event.id] + max(0, added)
        if not event.is_on_sale(working_set.now) and event.id not in reads.amended:
            # Nothing can be offered, so nothing is read: a long line must not make redeeming at the doors slower.
            budgets[event.id] = 0
    left = OFFERED_PER_BATCH_MAX
    in_order = sorted(budgets, key=lambda id: (id not in reads.turns, budgets[id]))
    for id in in_order:
        # A part of what it needs could leave the first in line unread: see ``WaitingList.may_be_unread``.
        budgets[id] = min(budgets[id], OFFERED_PER_BATCH_MAX) if left > 0 else 0
        left -= budgets[id]
    # If the limit was lowered, many may have to leave a line before anybody in it gets a ticket: read one such line
    # further, with all that is left.
    if long := next((id for id in in_order if id in reads.turns and budgets[id] and events[id].per_buyer), None):
        budgets[long] += max(0, left)
    return budgets


def serve_all(working_set: WorkingSet) -> None:
    """Offer what is available of all events with a line to those who wait."""
    for id in working_set.waiting_lists:
        serve(working_set, working_set.events[id])


def serve_changed(working_set: WorkingSet) -> None:
    """Offer what is available of the events with a line that have changed since the last call."""
    while working_set.changed_waiting_lists:
        serve(working_set, working_set.events[working_set.changed_waiting_lists.pop()])


def serve(working_set: WorkingSet, event: Event) -> None:
    """Offer what is available of an event to those who wait in its line."""
    line = working_set.waiting_lists[event.id]
    while event.available and event.waiting and event.is_on_sale(working_set.now):
        booking = line.first(event.available)
        if line.may_be_unread(event.available) or (booking and booking.quantity > line.budget):
            working_set.unserved.add(event.id)
            return
        if booking is None:
            return
        if _is_over_limit(working_set, event, booking):
            _evict(working_set, event, booking)
        elif event.per_buyer is not None and (event.id, booking.buyer) in working_set.uncounted:
            # Some bookings of this buyer left the list, but not all of the others were counted: the next batch counts
            # again.
            working_set.unserved.add(event.id)
            return
        else:
            line.budget -= booking.quantity
            _offer(working_set, event, booking)


def _is_over_limit(working_set: WorkingSet, event: Event, booking: Booking) -> bool:
    """Whether its buyer may not have the tickets: the limit was set or lowered after the booking joined the line."""
    if event.per_buyer is None:
        return False
    return booking.buyer is None or working_set.owned.get((event.id, booking.buyer), 0) > event.per_buyer


def _offer(working_set: WorkingSet, event: Event, booking: Booking) -> None:
    event.shift(available=-booking.quantity, held=booking.quantity, waiting=-1)
    booking.expires = working_set.now + (booking.seconds or 0) * 1_000
    booking.state = "held"
    _record(working_set, event, booking, Change("offer", *_after(working_set, event), (), booking.expires))
    working_set.offered.append(booking)


def _evict(working_set: WorkingSet, event: Event, booking: Booking) -> None:
    event.shift(waiting=-1)
    if booking.buyer is not None:
        working_set.own(event.id, booking.buyer, -booking.quantity)
    booking.state = "released"
    _record(working_set, event, booking, Change("leave", *_after(working_set, event)))
    working_set.evicted.append(booking)


def _after(working_set: WorkingSet, event: Event) -> tuple[int, int, int]:
    return event.available, event.version, working_set.now


def _record(working_set: WorkingSet, event: Event, booking: Booking, change: Change) -> None:
    booking.changes = [change]
    working_set.put_event(event)
    working_set.put_booking(booking)


def next_turn(event: Event, now: int) -> int | None:
    """Return when the tickets that an event has now can next be offered; None if it must change first.

    A batch has offered what it could, unless the event was ``unserved``.
    """
    if not event.waiting or not event.available or event.paused:
        return None
    # It closes later than it opens.
    return event.opens if event.opens is not None and event.opens > now else None
