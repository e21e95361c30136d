"""The methods of ``Client`` for commands, made by ``python -m tests.typed_methods``: do not edit them."""

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any, Literal, overload

from msgspec import UNSET, UnsetType

from ticketctl.arguments import given, given_list
from ticketd.wire.replies import (
    BackupReply,
    BookingReply,
    BookingsReply,
    EventReply,
    EventsReply,
    HelpReply,
    PongReply,
    ReadyReply,
    StatsReply,
    TicketReply,
)
from ticketd.wire.requests import (
    Amend,
    Annul,
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
    Request,
    Show,
    Stats,
    Wait,
    Watch,
)


class Methods:
    """A method for each command that sends it, and returns its reply. See ``Client`` for what they raise.

    What is None is left out; in ``create`` and ``amend``, it says that there is none, and UNSET is left out.
    """

    def call(self, request: Request) -> Any:
        """Send a request, and return its reply."""
        raise NotImplementedError

    def follow(self, request: Request) -> Generator[Any, None, None]:
        """Send a request that has many replies, and return them."""
        raise NotImplementedError

    def list(self, *, after: str | None = None, limit: int | None = None) -> EventsReply:
        """Show the events and how many of their tickets are left, a page at a time."""
        reply: EventsReply = self.call(List(after=given(after), limit=given(limit)))
        return reply

    @overload
    def show(self, id: str, *, kind: Literal["event"]) -> EventReply: ...

    @overload
    def show(self, id: str, *, kind: Literal["booking"]) -> BookingReply: ...

    @overload
    def show(self, id: str, *, kind: Literal["ticket"]) -> TicketReply: ...

    @overload
    def show(
        self, id: str, *, kind: Literal["event", "booking", "ticket"] | None = None
    ) -> EventReply | BookingReply | TicketReply: ...

    def show(
        self, id: str, *, kind: Literal["event", "booking", "ticket"] | None = None
    ) -> EventReply | BookingReply | TicketReply:
        """Show the event, booking or ticket with this id; if several have it, the first in this order."""
        reply: EventReply | BookingReply | TicketReply = self.call(Show(id, kind=given(kind)))
        return reply

    @overload
    def watch(self, event: str | None = None) -> Generator[EventReply, None, None]: ...

    @overload
    def watch(self, *, booking: str) -> Generator[BookingReply, None, None]: ...

    def watch(
        self, event: str | None = None, *, booking: str | None = None
    ) -> Generator[EventReply | BookingReply, None, None]:
        """Stream the events, one event or one booking, as they change, until the next line is sent."""
        return self.follow(Watch(event=given(event), booking=given(booking)))

    def bookings(
        self, *, after: str | None = None, limit: int = 100, event: str | None = None, buyer: str | None = None
    ) -> BookingsReply:
        """Read the bookings, a page at a time, in the order of their ids."""
        reply: BookingsReply = self.call(
            Bookings(after=given(after), limit=limit, event=given(event), buyer=given(buyer))
        )
        return reply

    def create(
        self,
        name: str,
        date: datetime,
        capacity: int,
        *,
        id: str | None = None,
        available: int | None = None,
        opens: datetime | UnsetType | None = UNSET,
        closes: datetime | UnsetType | None = UNSET,
        paused: bool = False,
        per_buyer: int | UnsetType | None = UNSET,
    ) -> EventReply:
        """Put a new event on sale."""
        reply: EventReply = self.call(
            Create(
                name,
                date,
                capacity,
                id=given(id),
                available=given(available),
                opens=opens,
                closes=closes,
                paused=paused,
                per_buyer=per_buyer,
            )
        )
        return reply

    def book(self, event: str, quantity: int, *, booking: str | None = None, buyer: str | None = None) -> BookingReply:
        """Buy tickets of an event."""
        reply: BookingReply = self.call(Book(event, quantity, booking=given(booking), buyer=given(buyer)))
        return reply

    def hold(
        self, event: str, quantity: int, *, seconds: int = 300, booking: str | None = None, buyer: str | None = None
    ) -> BookingReply:
        """Keep tickets of an event for a buyer who is still paying."""
        reply: BookingReply = self.call(
            Hold(event, quantity, seconds=seconds, booking=given(booking), buyer=given(buyer))
        )
        return reply

    def wait(
        self, event: str, quantity: int, *, seconds: int = 900, booking: str | None = None, buyer: str | None = None
    ) -> BookingReply:
        """Wait for tickets of an event: they are held for this booking when its turn comes."""
        reply: BookingReply = self.call(
            Wait(event, quantity, seconds=seconds, booking=given(booking), buyer=given(buyer))
        )
        return reply

    def extend(self, booking: str, seconds: int) -> BookingReply:
        """Keep what is held for longer."""
        reply: BookingReply = self.call(Extend(booking, seconds))
        return reply

    def confirm(self, booking: str, *, late: bool = False) -> BookingReply:
        """Sell what is held."""
        reply: BookingReply = self.call(Confirm(booking, late=late))
        return reply

    def release(self, booking: str) -> BookingReply:
        """Put what is held back on sale, or leave the waiting list."""
        reply: BookingReply = self.call(Release(booking))
        return reply

    def cancel(self, booking: str, *, tickets: Sequence[str] | None = None) -> BookingReply:
        """Take back tickets that were sold, and put them on sale again."""
        reply: BookingReply = self.call(Cancel(booking, tickets=given_list("tickets", tickets)))
        return reply

    def reissue(self, ticket: str) -> TicketReply:
        """Replace a ticket by one with a new id, for the same place."""
        reply: TicketReply = self.call(Reissue(ticket))
        return reply

    def redeem(self, ticket: str, *, event: str | None = None, scan: str | None = None) -> TicketReply | BookingReply:
        """Let the owner of a ticket in, once; or the owners of all valid tickets of a booking."""
        reply: TicketReply | BookingReply = self.call(Redeem(ticket, event=given(event), scan=given(scan)))
        return reply

    def annul(self, ticket: str, *, event: str | None = None, reason: str | None = None) -> TicketReply:
        """Take a redemption back, so that the ticket is valid again."""
        reply: TicketReply = self.call(Annul(ticket, event=given(event), reason=given(reason)))
        return reply

    def amend(
        self,
        event: str,
        *,
        name: str | None = None,
        date: datetime | None = None,
        capacity: int | None = None,
        opens: datetime | UnsetType | None = UNSET,
        closes: datetime | UnsetType | None = UNSET,
        paused: bool | None = None,
        per_buyer: int | UnsetType | None = UNSET,
    ) -> EventReply:
        """Change an event: its name, date or capacity, or when and to whom it is sold."""
        reply: EventReply = self.call(
            Amend(
                event,
                name=given(name),
                date=given(date),
                capacity=given(capacity),
                opens=opens,
                closes=closes,
                paused=given(paused),
                per_buyer=per_buyer,
            )
        )
        return reply

    def delete(self, event: str) -> EventReply:
        """Remove an event of which no ticket was ever sold, held or waited for."""
        reply: EventReply = self.call(Delete(event))
        return reply

    def stats(self) -> StatsReply:
        """Show what the daemon is doing."""
        reply: StatsReply = self.call(Stats())
        return reply

    def ping(self) -> PongReply:
        """Check whether the daemon answers."""
        reply: PongReply = self.call(Ping())
        return reply

    def ready(self) -> ReadyReply:
        """Check whether the daemon can sell: whether its ledger takes commits now."""
        reply: ReadyReply = self.call(Ready())
        return reply

    def help(self, command: str | None = None) -> HelpReply:
        """Show the commands, or one of them with its fields."""
        reply: HelpReply = self.call(Help(command=given(command)))
        return reply

    def backup(self, name: str) -> BackupReply:
        """Write a backup of the ledger beside it, while it sells."""
        reply: BackupReply = self.call(Backup(name))
        return reply
