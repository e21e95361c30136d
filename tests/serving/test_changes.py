from hypothesis import given
from hypothesis import strategies as st

from ticketd.serving.changes import OUTDATED_MAX, Changes

EVENTS = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@given(st.lists(EVENTS, max_size=6), st.integers(0, 72))
def test_each_change_since_a_number_is_there_once_and_in_order(rounds: list[list[str]], number: int) -> None:
    changes = Changes()
    history = [event for events in rounds for event in events]
    for events in rounds:
        changes.add(events)
    assert changes.last == len(history)
    last = {event: place for place, event in enumerate(history, 1)}
    assert list(changes.since(number)) == sorted((place, event) for event, place in last.items() if place > number)
    assert [changes.number_of(event) for event in "abcdefghi"] == [last.get(event, 0) for event in "abcdefghi"]


def test_changes_are_no_more_than_the_events_that_change() -> None:
    changes = Changes()
    for _ in range(3 * OUTDATED_MAX):
        changes.add("ab")
    assert len(changes._events) <= OUTDATED_MAX + 2 * 2
    assert [event for _, event in changes.since(changes.last - 1)] == ["b"]
    assert [event for _, event in changes.since(0)] == ["a", "b"]


def test_a_removed_event_has_not_changed_until_it_changes_again() -> None:
    changes = Changes()
    changes.add("abc")
    changes.remove("bx")
    assert list(changes.since(0)) == [(1, "a"), (3, "c")]
    assert changes.number_of("b") == 0
    changes.add("b")
    assert list(changes.since(1)) == [(3, "c"), (4, "b")]
