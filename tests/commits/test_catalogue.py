from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketd.commits.catalogue import Catalogue
from ticketd.errors import TicketError
from ticketd.model import Event
from ticketd.rules.showing import event_reply
from ticketd.wire.codec import decode_reply, encode
from ticketd.wire.replies import EventFacts, EventReply, EventsReply
from ticketd.wire.requests import List
from ticketd.wire.requests.fields import EVENTS_PER_PAGE_MAX

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


def test_a_page_has_1000_events_at_most_and_says_if_more_come() -> None:
    events = [event(f"e{number}") for number in range(2 * EVENTS_PER_PAGE_MAX)]
    catalogue = Catalogue(events)
    for request, first, last, more in (
        (List(), 0, 999, True),
        (List(limit=2), 0, 1, True),
        (List("e998"), 999, 1_998, True),
        (List("e999"), 1_000, 1_999, False),
        (List("e1998", 1), 1_999, 1_999, False),
    ):
        reply = decode_reply(catalogue.list_frame(request))
        assert reply == EventsReply(facts(events[first : last + 1]), more)


def test_a_page_encodes_its_events_and_no_others() -> None:
    catalogue = Catalogue([event(f"e{number}") for number in range(5 * EVENTS_PER_PAGE_MAX)])
    for request, encoded in ((List(), 1_000), (List("e499"), 1_500), (List(limit=9), 1_500), (List("e3000", 7), 1_507)):
        catalogue.list_frame(request)
        assert sum(map(bool, catalogue._encoded.values())) == encoded
    catalogue.publish([event("e1", 1), event("e4000", 1)])
    assert sum(map(bool, catalogue._encoded.values())) == 1_507 - 1
    catalogue.event_lines(0, 3)
    assert sum(map(bool, catalogue._encoded.values())) == 1_507


@pytest.mark.parametrize(
    ("request_", "ids"),
    [
        (List(), "abcd"),
        (List(limit=1), "a"),
        (List(limit=4), "abcd"),
        (List(limit=EVENTS_PER_PAGE_MAX), "abcd"),
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


@given(st.lists(IDS, unique=True), st.lists(IDS), PUBLICATIONS)
def test_what_is_removed_is_gone_until_it_is_published_again(
    first: list[str], removed: list[str], publications: list[list[Event]]
) -> None:
    catalogue = Catalogue([event(each) for each in first])
    catalogue.list_frame(List())
    catalogue.remove(removed)
    left = [each for each in first if each not in removed]
    assert listed(catalogue, List()) == facts([event(each) for each in left])
    assert [catalogue.position(each) for each in left] == list(range(len(left)))
    assert all(catalogue.get(each) is None for each in removed)
    for publication in publications:
        catalogue.publish(publication)
    fresh = Catalogue([event(each) for each in left])
    for publication in publications:
        fresh.publish(publication)
    assert catalogue.events() == fresh.events()
    assert catalogue.list_frame(List()) == fresh.list_frame(List())


@pytest.mark.parametrize("step", [2, 700])
def test_many_and_few_removals_leave_the_others_in_order(step: int) -> None:
    ids = [f"e{number}" for number in range(1_400)]
    catalogue = Catalogue([event(each) for each in ids])
    removed = ids[::step]
    catalogue.remove(removed)
    left = [each for each in ids if each not in removed]
    assert [each.id for each in listed(catalogue, List(limit=1_000))] == left[:1_000]
    assert [catalogue.position(each) for each in left] == list(range(len(left)))
    # What comes next has a number that nobody had.
    catalogue.publish([event(removed[0]), event("new"), event("e3", 5)])
    left += [removed[0], "new"]
    assert [each.id for each in catalogue.events()] == left
    assert [catalogue.position(each) for each in left] == list(range(len(left)))
    assert [each.id for each in listed(catalogue, List(left[-3]))] == left[-2:]


def test_a_removal_raises_the_revision_if_anything_is_removed() -> None:
    catalogue = Catalogue([event("a")])
    before = catalogue.revision
    catalogue.remove(["nope"])
    assert catalogue.revision == before
    catalogue.remove(["a"])
    assert catalogue.revision > before


def test_each_publication_raises_the_revision() -> None:
    catalogue = Catalogue([])
    before = catalogue.revision
    catalogue.publish([event("a")])
    published = catalogue.revision
    catalogue.list_frame(List())
    assert before < published == catalogue.revision


def test_watch_and_show_send_the_same_reply_for_an_event() -> None:
    catalogue = Catalogue([event("a"), event("b")])
    everything = Event("b", "B", DATE, 100, 90, 3, 7, 8, 1, 10, 20, paused=True, per_buyer=4, waiting=5)
    assert len(msgspec.to_builtins(event_reply(everything, replayed=True))) == len(EventReply.__struct_fields__) + 1
    catalogue.publish([everything])
    frames = [encode(event_reply(shown)) for shown in catalogue.events()]
    assert catalogue.event_lines(0, 2) == b"".join(frame + b"\n" for frame in frames)
    assert catalogue.event_line("b") == frames[1] + b"\n"
