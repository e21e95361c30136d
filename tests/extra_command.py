"""A command of our own, added as CONTRIBUTING.md says: a Struct, and a row with its function.

``python -m tests.extra_command ...`` is a ticketd that knows it, ``... ticketctl ...`` a ticketctl; ``... table NAME``
prints what protocol.md would have to say of it.
"""

import sys
from typing import Annotated, ClassVar

from msgspec import Meta

from ticketd.rules.commands import TABLE, Row
from ticketd.rules.memory import Memory
from ticketd.rules.showing import event_reply, no_event
from ticketd.rules.working_set import ReadSet, WorkingSet
from ticketd.wire.replies import EventReply, Reply
from ticketd.wire.requests import Request, fields
from ticketd.wire.roles import Role


class Grow(Request, tag="grow"):
    """Put more tickets of an event on sale."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (EventReply,)
    writes: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False

    event: fields.EventId
    by: Annotated[int, Meta(ge=1, le=500, description="how many more")] = 1


class PeekReply(Reply, tag="peek"):
    """Answers ``peek``."""

    available: int


class Peek(Request, tag="peek"):
    """Show how many tickets of an event are left."""

    roles: ClassVar[frozenset[Role]] = frozenset({"reader"})
    replies = (PeekReply,)

    event: fields.EventId


def reads_its_event(reads: ReadSet, request: Grow) -> None:
    reads.events.add(request.event)


def grow(working_set: WorkingSet, request: Grow) -> Reply:
    event = working_set.events.get(request.event)
    if event is None:
        return no_event(request.event)
    event.capacity += request.by
    event.available += request.by
    event.amendments += 1
    event.version += 1
    working_set.put_terms(event)
    return event_reply(event)


def peek(memory: Memory, request: Peek) -> Reply:
    """Show what is left of an event."""
    event = memory.event(request.event)
    return PeekReply(event.available) if event else no_event(request.event)


TABLE[Grow] = Row(decide=grow, reads=reads_its_event, event=lambda request: request.event, verb="grew")
TABLE[Peek] = Row(answer=peek, shows_events=True)


if __name__ == "__main__":
    match sys.argv[1:2]:
        case ["ticketctl"]:
            from ticketctl.cli import main

            del sys.argv[1]
            main()
        case ["table"]:
            from tests.test_docs import command_table

            print(command_table(sys.argv[2]))
        case _:
            from ticketd.cli import main

            main()
