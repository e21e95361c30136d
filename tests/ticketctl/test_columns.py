"""How tables become narrower: what is left out, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketctl.columns import fit, total

WIDTHS = {"id": 4, "name": 20, "bar": 16, "left": 9}
STEPS = [("bar", 6), ("name", 12), ("bar", 0), ("name", 6), ("name", 0), ("left", 0)]


@pytest.mark.parametrize(
    ("room", "fitted"),
    [
        (100, WIDTHS),
        (55, WIDTHS),
        (54, {"id": 4, "name": 20, "bar": 15, "left": 9}),
        (45, {"id": 4, "name": 20, "bar": 6, "left": 9}),
        (40, {"id": 4, "name": 15, "bar": 6, "left": 9}),
        # Without the bar, the name is whole again.
        (36, {"id": 4, "name": 19, "left": 9}),
        (24, {"id": 4, "name": 7, "left": 9}),
        (22, {"id": 4, "left": 9}),
        (15, {"id": 4, "left": 9}),
        (14, {"id": 4}),
        (2, {"id": 4}),
    ],
)
def test_a_table_gives_up_one_thing_after_the_other(room: int, fitted: dict[str, int]) -> None:
    assert fit(WIDTHS, STEPS, room) == fitted


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 60), min_size=1),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 60))),
    st.integers(1, 200),
)
def test_a_table_that_can_fit_does_and_no_column_grows(
    widths: dict[str, int], steps: list[tuple[str, int]], room: int
) -> None:
    fitted = fit(widths, steps, room)
    assert list(fitted) == [name for name in widths if name in fitted]
    assert all(fitted[name] <= widths[name] for name in fitted)
    given_up = {name: min((least for step, least in steps if step == name), default=widths[name]) for name in widths}
    smallest = {name: min(width, given_up[name]) for name, width in widths.items() if given_up[name]}
    assert total(fitted) <= max(room, total(smallest))
