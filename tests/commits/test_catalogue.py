from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketd.commits.catalogue import Catalogue
from ticketd.errors import TicketError
from ticketd.model import Event
from ticketd.rules.events import event_reply
from ticketd.wire.codec import decode_reply, encode
from ticketd.wire.replies import EventFacts, EventsReply
from ticketd.wire.requests import List

DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)


def event(event_id: str, version: int = 0) -> Event:
    return Event(event_id, f"Event {event_id}", DATE, 100, 100 - version, 0, version, version, 0)


def facts(events: list[Event]) -> list[EventFacts]:
    return [EventFacts(e.id, e.name, e.date, e.capacity, e.available, e.held, e.sold, e.version) for e in events]


def listed(catalogue: Catalogue, request: List) -> list[EventFacts]:
    reply = decode_reply(catalogue.list_frame(request))
    assert isinstance(reply, EventsReply)
    return reply.events


IDS = st.sampled_from("abcdef")
PUBLICATIONS = st.lists(st.lists(st.builds(event, IDS, st.integers(0, 100)), max_size=4), max_size=6)


@settings(deadline=None)
@given(st.lists(IDS, unique=True), PUBLICATIONS, st.booleans())
def test_list_shows_the_latest_versions_in_creation_order(
    first: list[str], publications: list[list[Event]], asked_between: bool
) -> None:
    catalogue = Catalogue([event(each) for each in first])
    known = {event_id: event(event_id) for event_id in first}
    for publication in publications:
        catalogue.publish(publication)
        for each in publication:
            # What comes late does not undo what is known.
            if each.id not in known or known[each.id].version < each.version:
                known[each.id] = each
        if asked_between:
            catalogue.list_frame(List())
    assert catalogue.list_frame(List()) == encode(EventsReply(facts(list(known.values()))))
    assert catalogue.events() == list(known.values())
    assert [catalogue.get(event_id) for event_id in known] == list(known.values())
    assert len(catalogue) == len(known)


@settings(deadline=None)
@given(PUBLICATIONS, st.integers(1, 8))
def test_the_pages_of_list_add_up_to_the_whole_list(publications: list[list[Event]], limit: int) -> None:
    catalogue = Catalogue([])
    for publication in publications:
        catalogue.publish(publication)
    pages = [listed(catalogue, List(limit=limit))]
    while pages[-1] and len(pages) < 10:
        pages.append(listed(catalogue, List(pages[-1][-1].id, limit)))
    assert all(len(page) == limit for page in pages[:-2])
    assert [each for page in pages for each in page] == listed(catalogue, List())


@pytest.mark.parametrize(
    ("request_", "ids"),
    [
        (List(), "abcd"),
        (List(limit=1), "a"),
        (List(limit=4), "abcd"),
        (List(limit=100_000), "abcd"),
        (List("b"), "cd"),
        (List("b", 1), "c"),
        (List("d"), ""),
    ],
)
def test_after_and_limit_choose_a_page(request_: List, ids: str) -> None:
    assert listed(Catalogue([event(each) for each in "abcd"]), request_) == facts([event(event_id) for event_id in ids])


def test_an_unknown_after_is_refused_and_named() -> None:
    with pytest.raises(TicketError, match="there is no event nope") as raised:
        Catalogue([event("a")]).list_frame(List("nope"))
    assert raised.value.code == "event_not_found"


def test_the_catalogue_returns_none_for_an_unknown_event() -> None:
    assert Catalogue([event("a")]).get("nope") is None


def test_list_is_cached_until_something_is_published() -> None:
    catalogue = Catalogue([event("a"), event("b")])
    frame = catalogue.list_frame(List())
    catalogue.list_frame(List("a", 1))
    assert catalogue.list_frame(List()) is frame
    catalogue.publish([event("a", 1)])
    assert listed(catalogue, List()) == facts([event("a", 1), event("b")])


def test_a_page_of_list_shows_what_was_just_published() -> None:
    catalogue = Catalogue([event("a"), event("b")])
    catalogue.list_frame(List())
    catalogue.publish([event("b", 3)])
    assert listed(catalogue, List("a")) == facts([event("b", 3)])


def test_each_publication_raises_the_revision() -> None:
    catalogue = Catalogue([])
    before = catalogue.revision
    catalogue.publish([event("a")])
    published = catalogue.revision
    catalogue.list_frame(List())
    assert before < published == catalogue.revision


def test_watch_and_show_send_the_same_reply_for_an_event() -> None:
    catalogue = Catalogue([event("a"), event("b")])
    catalogue.publish([event("b", 7)])
    frames = [encode(event_reply(shown)) for shown in catalogue.events()]
    assert catalogue.event_frames() == frames
    assert catalogue.event_frame("b") == frames[1]
