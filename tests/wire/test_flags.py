"""Words of flags, of what can be cleared, and of options whose names have dashes."""

from datetime import UTC, datetime

import pytest

from ticketd.errors import TicketError
from ticketd.wire.commands import commands
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Bookings,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Request,
)
from ticketd.wire.words import decode, unparse

WHEN = "2027-03-11T20:00:00Z"
DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)


def jazz(**terms: object) -> Create:
    return Create("Jazz", DATE, 9, **terms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        # Flags, anywhere; the last one counts.
        ("confirm b --late", Confirm("b", late=True)),
        ("confirm --late b", Confirm("b", late=True)),
        ("confirm --no-late b", Confirm("b")),
        ("confirm b --late=true", Confirm("b", late=True)),
        ("confirm b --late=false", Confirm("b")),
        ("confirm b --late --no-late", Confirm("b")),
        ("confirm b --no-late --late", Confirm("b", late=True)),
        ("confirm -- --late", Confirm("--late")),
        (f"create Jazz {WHEN} --paused 9", jazz(paused=True)),
        (f"create Jazz {WHEN} 9 --no-paused", jazz()),
        ("amend 1 --paused", Amend("1", paused=True)),
        ("amend 1 --no-paused", Amend("1", paused=False)),
        ("amend 1 --paused --name none", Amend("1", "none", paused=True)),
        # What can be cleared.
        ("amend 1 --opens none", Amend("1", opens=None)),
        ("amend 1 --opens=none --closes none --per-buyer none", Amend("1", opens=None, closes=None, per_buyer=None)),
        (f"create Jazz {WHEN} 9 --opens none", jazz(opens=None)),
        # And what cannot.
        ("book 1 2 --buyer none", Book("1", 2, buyer="none")),
        ("show none", None),
        ("redeem t --scan none --event none", Redeem("t", "none", "none")),
        ("annul t --reason none", Annul("t", reason="none")),
        # Names with dashes, and the rest.
        ("amend 1 --per-buyer 4", Amend("1", per_buyer=4)),
        (f"create Jazz {WHEN} 9 --per-buyer=4", jazz(per_buyer=4)),
        (f"create Jazz {WHEN} 9 --opens {WHEN}", jazz(opens=DATE)),
        ("create Jazz 2027-03-11T20:00:00Z 9 --closes 2027-03-11T21:00:00+01:00", jazz(closes=DATE)),
        ('book 1 2 --buyer "order 5"', Book("1", 2, buyer="order 5")),
        ("book 1 2 --buyer=--late", Book("1", 2, buyer="--late")),
        ("book 1 2 --buyer --late", Book("1", 2, buyer="--late")),
        ("hold 1 2 --buyer a@b.c", Hold("1", 2, 300, buyer="a@b.c")),
        ("hold 1 2 --buyer 5", Hold("1", 2, 300, buyer="5")),
        ("extend b 60", Extend("b", 60)),
        ("reissue t", Reissue("t")),
        ("redeem t --event jazz --scan s", Redeem("t", "jazz", "s")),
        ("annul t --event jazz --reason 'not hers'", Annul("t", "jazz", "not hers")),
        ("delete 1", Delete("1")),
        ("bookings --event jazz --buyer 'order 5'", Bookings(event="jazz", buyer="order 5")),
    ],
)
def test_a_line_of_words_decodes_to_its_request(line: str, request_: Request | None) -> None:
    if request_ is None:
        assert getattr(decode(line.encode()), "id", None) == "none"
    else:
        assert decode(line.encode()) == request_


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("confirm b --late=yes", 'late must be true or false, not "yes"'),
        ("confirm b --late=", 'late must be true or false, not ""'),
        ("confirm b --late=1", 'late must be true or false, not "1"'),
        ("confirm b --late true", '"true" is one word too many'),
        ("confirm b --no-late=true", 'confirm has no option "--no-late"'),
        ("confirm b --no-no-late", 'confirm has no option "--no-no-late"'),
        ("confirm b --no-booking", 'confirm has no option "--no-booking"'),
        ("confirm b --no-", 'confirm has no option "--no-"'),
        ("book 1 2 --no-buyer", 'book has no option "--no-buyer"'),
        ("book 1 2 --late", 'book has no option "--late"'),
        ("amend 1 --paused=none", 'paused must be true or false, not "none"'),
        ("amend 1 --per_buyer 4", 'amend has no option "--per_buyer"'),
        ("amend 1 --per-buyer", "--per-buyer needs a value"),
        ("amend 1 --per-buyer 0", "per_buyer must be a whole number from 1 to 1000, or none, not 0"),
        ("amend 1 --per-buyer None", 'per_buyer must be a whole number from 1 to 1000, or none, not "None"'),
        ("amend 1 --capacity none", 'capacity must be a whole number from 1 to 1000000000, not "none"'),
        ("amend 1 --date none", 'date must be a day and time with its zone, such as 2027-03-11T20:00:00Z, not "none"'),
        ("amend 1 --opens 2027-03-11T20:00:00", "opens must be a day and time with its zone"),
        ("amend 1 --opens '2027-03-11 20:00'", "opens must be a day and time with its zone"),
        (f"amend 1 --opens {WHEN} --closes {WHEN}", "closes must be later than opens"),
        ("book 1 2 --buyer=", "buyer must be 1 to 200 bytes in UTF-8, and it has 0"),
        ("book 1 2 --buyer a\x1bb", "buyer must not have the control or direction character U+001B in it"),
        ("annul t --reason ''", "reason must be 1 to 200 bytes in UTF-8, and it has 0"),
        ("extend b", "extend needs seconds"),
        ("extend b 86401", "seconds must be a whole number from 1 to 86400, not 86401"),
        ("delete", "delete needs event"),
        ("delete 1 2", '"2" is one word too many'),
        (f"create ' ' {WHEN} 9", "name must not be blank, nor begin or end with a blank"),
        (f"create 'x ' {WHEN} 9", "name must not be blank, nor begin or end with a blank"),
        ("amend 1 --name ' x'", "name must not be blank, nor begin or end with a blank"),
    ],
)
def test_words_that_do_not_fit_are_refused_with_the_reason(line: str, says: str) -> None:
    with pytest.raises(TicketError) as raised:
        decode(line.encode())
    assert raised.value.code == "bad_request"
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Confirm("b"), "confirm b"),
        (Confirm("b", late=True), "confirm --late b"),
        (Amend("1", paused=False), "amend --no-paused 1"),
        (Amend("1", opens=None, per_buyer=4), "amend --opens none --per-buyer 4 1"),
        (Book("1", 2, buyer="--x"), "book --buyer=--x 1 2"),
        (jazz(), "create Jazz 2027-03-11T20:00:00Z 9"),
        (jazz(paused=True, closes=DATE), "create --closes 2027-03-11T20:00:00Z --paused Jazz 2027-03-11T20:00:00Z 9"),
    ],
)
def test_a_request_is_typed_with_no_word_too_many(request_: Request, words: str) -> None:
    typed = unparse(request_)
    assert " ".join(sorted(typed)) == " ".join(sorted(words.split()))
    assert decode(" ".join(typed).encode()) == request_


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("confirm", "confirm BOOKING [--[no-]late]"),
        ("extend", "extend BOOKING SECONDS"),
        ("book", "book EVENT QUANTITY [--booking ID] [--buyer BUYER]"),
        ("redeem", "redeem TICKET [--event ID] [--scan ID]"),
        ("annul", "annul TICKET [--event ID] [--reason REASON]"),
        ("reissue", "reissue TICKET"),
        ("delete", "delete EVENT"),
        (
            "amend",
            "amend EVENT [--name NAME] [--date TIME] [--capacity N] [--opens TIME] [--closes TIME] [--[no-]paused]"
            " [--per-buyer N]",
        ),
    ],
)
def test_the_usage_shows_flags_and_options_as_they_are_typed(name: str, usage: str) -> None:
    assert commands()[name].usage == usage


def test_help_says_what_can_be_cleared() -> None:
    clearable = {field.name for command in commands().values() for field in command.fields if field.clearable}
    assert clearable == {"opens", "closes", "per_buyer"}
    assert all(
        field.must_be.endswith(", or none") == field.clearable
        for command in commands().values()
        for field in command.fields
    )
