"""Times: people write and read them in their own zone, and programs get UTC."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import answer, ctl, ended, lying, nobody, terminal
from tests.daemon import Daemon
from tests.ticketctl.test_render import FACTS
from ticketctl.times import Reader, Zone, past, rfc3339
from ticketd.wire.requests import Create

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

# The zone of Berlin for a system without tables of zones.
BERLIN = {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
EVENT = answer("event", id="x", name="X", **FACTS)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo")


@pytest.mark.parametrize(
    ("typed", "zone", "moment"),
    [
        ("2027-07-11 20:00", "Europe/Berlin", "2027-07-11T18:00:00Z"),
        ("2027-07-11T20:00", "Europe/Berlin", "2027-07-11T18:00:00Z"),
        ("2027-07-11t20:00:30", "Europe/Berlin", "2027-07-11T18:00:30Z"),
        ("2027-07-11 20:00:30.5", "Europe/Berlin", "2027-07-11T18:00:30.500000Z"),
        ("2027-01-11 20:00", "Europe/Berlin", "2027-01-11T19:00:00Z"),
        ("2027-07-11 20:00", "America/New_York", "2027-07-12T00:00:00Z"),
        ("2027-07-11 20:00", "Asia/Kathmandu", "2027-07-11T14:15:00Z"),
        ("2027-07-11 20:00", "UTC", "2027-07-11T20:00:00Z"),
        ("2027-07-11 20:00 UTC", "Europe/Berlin", "2027-07-11T20:00:00Z"),
        ("2027-07-11 20:00 CEST", "Europe/Berlin", "2027-07-11T18:00:00Z"),
        ("2027-10-31 02:30 CEST", "Europe/Berlin", "2027-10-31T00:30:00Z"),
        ("2027-10-31 02:30 CET", "Europe/Berlin", "2027-10-31T01:30:00Z"),
        # RFC 3339, and without its seconds.
        ("2027-07-11T20:00:00Z", "Europe/Berlin", "2027-07-11T20:00:00Z"),
        ("2027-07-11T20:00:00-05:00", "Europe/Berlin", "2027-07-12T01:00:00Z"),
        ("2027-07-11T20:00Z", "Europe/Berlin", "2027-07-11T20:00:00Z"),
        ("2027-07-11 20:00+05:45", "Europe/Berlin", "2027-07-11T14:15:00Z"),
    ],
)
def test_a_time_is_read_in_the_zone_of_the_person(typed: str, zone: str, moment: str) -> None:
    request = Reader(Zone(zone)).parse(["create", "X", typed, "5"])
    assert isinstance(request, Create)
    assert rfc3339(request.date) == moment


@given(st.sampled_from(ZONES), st.datetimes(datetime(1980, 1, 1), datetime(2037, 12, 31)))
def test_whatever_time_is_shown_is_read_as_the_same_moment(name: str, time: datetime) -> None:
    zone, moment = Zone(name), time.replace(microsecond=0, tzinfo=UTC)
    assert zone.moment(zone.show(moment)) == zone.moment(zone.show(moment, seconds=True)) == moment


@pytest.mark.parametrize("given", [{"TICKETD_TIMEZONE": "Europe/Berlin"}, BERLIN, {"TZ": "Europe/Berlin"}])
def test_the_environment_names_the_zone(given: dict[str, str]) -> None:
    with lying(EVENT) as liar:
        words = ["--opens", "2027-01-11 10:00", "--closes=2027-07-11 19:00:30"]
        done = ctl("create", "X", "2027-07-11T20:00", "5", *words, port=liar.port, env=given)
        sent = liar.asked()
    assert (done.returncode, done.stderr) == (0, "")
    assert [sent[name] for name in ("date", "opens", "closes")] == [
        "2027-07-11T18:00:00Z",
        "2027-01-11T09:00:00Z",
        "2027-07-11T17:00:30Z",
    ]


def test_the_option_overrides_the_zone_of_the_environment() -> None:
    with lying(EVENT) as liar:
        words = ["--timezone", "Asia/Kathmandu", "amend", "x", "--date", "2027-07-11 20:00", "--opens", "none"]
        ctl(*words, port=liar.port, env={"TICKETD_TIMEZONE": "Europe/Berlin"})
        sent = liar.asked()
    assert (sent["date"], sent["opens"]) == ("2027-07-11T14:15:00Z", None)


def test_a_terminal_says_which_moment_was_understood() -> None:
    times = ["2027-07-11 20:00", "5", "--opens", "2027-01-11T10:00:30"]
    with lying(EVENT) as liar, terminal("create", "X", *times, port=liar.port, env=BERLIN) as screen:
        status, shown = ended(screen)
    assert status == 0
    assert shown.splitlines()[:2] == [
        "ticketctl: 2027-07-11 20:00 CEST is 2027-07-11T18:00:00Z",
        "ticketctl: 2027-01-11 10:00:30 CET is 2027-01-11T09:00:30Z",
    ]
    # Of a time with its offset there is nothing to say.
    words = ["create", "X", "2027-07-11T18:00:00Z", "5"]
    with lying(EVENT) as liar, terminal(*words, port=liar.port, env=BERLIN) as screen:
        assert ended(screen)[1].startswith("ID ")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "2027-03-28 02:30",
            'date: "2027-03-28 02:30" is skipped in {zone}: the clocks go forward then;'
            " write 2027-03-28 01:30 CET or 2027-03-28 03:30 CEST",
        ),
        (
            "2027-10-31 02:30",
            'date: "2027-10-31 02:30" comes twice in {zone}: the clocks go back then;'
            " write 2027-10-31T00:30:00Z (CEST) or 2027-10-31T01:30:00Z (CET)",
        ),
        (
            "2027-07-11 20:00 EST",
            "date: in {zone} it is CEST, not EST; write it as 2027-07-11T20:00 (in CEST) or 2027-07-11T18:00:00Z",
        ),
    ],
)
@pytest.mark.parametrize(
    ("given", "zone"), [(BERLIN, "the local time zone"), ({"TICKETD_TIMEZONE": "Europe/Berlin"}, "Europe/Berlin")]
)
def test_a_time_that_is_not_exactly_one_moment_is_refused(
    typed: str, said: str, given: dict[str, str], zone: str
) -> None:
    with nobody() as port:
        done = ctl("create", "X", typed, "5", port=port, env=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ticketctl: bad_request: {said.format(zone=zone)}\n"


@pytest.mark.parametrize(
    ("zone", "example"),
    [
        ("Europe/Berlin", "2027-07-11T20:00 (in CEST) or 2027-07-11T18:00:00Z"),
        ("America/New_York", "2027-07-11T20:00 (in EDT) or 2027-07-12T00:00:00Z"),
        ("Asia/Kathmandu", "2027-07-11T20:00 (in UTC+05:45) or 2027-07-11T14:15:00Z"),
    ],
)
@pytest.mark.parametrize("typed", ["tomorrow", "2027-07-11", "20:00", "2027-13-11 20:00", "2027-07-11 24:01", "none"])
def test_what_is_no_time_is_refused_with_an_example_of_the_zone(zone: str, example: str, typed: str) -> None:
    with pytest.raises(Exception, match="must be") as refused:
        Reader(Zone(zone)).parse(["create", "X", typed, "5"])
    assert str(refused.value) == f'date must be a day and time, such as {example}, not "{typed}"'
    # The example can be typed.
    for word in example.replace(" (", " or ").split(" or "):
        if word[:4] == "2027":
            Reader(Zone(zone)).parse(["create", "X", word, "5"])


def test_a_time_that_can_be_cleared_may_be_none_and_nothing_else() -> None:
    with nobody() as port:
        done = ctl("amend", "x", "--opens", "never", port=port, env=BERLIN)
    assert done.returncode == 2
    assert done.stderr.endswith(' or 2027-07-11T18:00:00Z, or none, not "never"\n')


@pytest.mark.parametrize("time", ["0001-01-01 00:00", "9999-12-31 23:59"])
@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
def test_times_at_the_ends_of_the_calendar_are_refused_or_kept(time: str, zone: str) -> None:
    with lying(EVENT) as liar:
        done = ctl("create", "X", time, "5", "--timezone", zone, port=liar.port)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    event = {"id": "x", "name": "X", **FACTS, "date": f"{time.replace(' ', 'T')}:00Z"}
    with lying(answer("event", **event)) as liar, terminal("show", "x", "--timezone", zone, port=liar.port) as screen:
        status, shown = ended(screen)
    assert (status, "Traceback" in shown) == (0, False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Mars", ""),
        ("Berlin", "is Europe/Berlin meant?"),
        ("europe/berlin", "is Europe/Berlin meant?"),
        ("new york", "is America/New_York meant?"),
        ("Europe", ""),
        ("/etc/passwd", ""),
        ("../../etc/passwd", ""),
        ("\x1b[2J", r"\u001b[2J"),
    ],
)
def test_an_unknown_time_zone_is_refused_in_words(name: str, hint: str) -> None:
    with nobody() as port:
        for done in (
            ctl("--timezone", name, "list", port=port),
            ctl("list", port=port, env={"TICKETD_TIMEZONE": name}),
        ):
            assert (done.returncode, done.stdout) == (2, "")
            assert "error: there is no time zone " in done.stderr
            assert hint in done.stderr
            assert "\x1b" not in done.stderr


def test_a_terminal_shows_times_in_the_local_zone_and_a_pipe_in_utc(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.ask("create Summer 2027-07-11T18:00:00Z 5 --id summer")
        connection.ask("create Winter 2027-01-11T18:00:30Z 5 --id winter")
    with terminal("list", port=daemon.port, env=BERLIN) as screen:
        shown = ended(screen)[1]
    assert " 2027-07-11 20:00 CEST " in shown
    assert " 2027-01-11 19:00:30 CET " in shown
    with terminal("list", "--timezone", "Asia/Kathmandu", port=daemon.port, env=BERLIN) as screen:
        assert " 2027-07-11 23:45 UTC+05:45 " in ended(screen)[1]
    for words in (["list"], ["--json", "list"], ["export", "events", "--csv"]):
        piped = ctl(*words, "--timezone", "Europe/Berlin", port=daemon.port).stdout
        assert "2027-07-11T18:00:00Z" in piped
        assert "2027-01-11T18:00:30Z" in piped


def test_an_error_on_a_terminal_tells_the_time_in_the_local_zone(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.ask("create Later 2037-07-11T20:00:00Z 5 --id later --opens 2037-07-01T08:00:00Z")
    with terminal("book", "later", "1", port=daemon.port, env=BERLIN) as screen:
        assert ended(screen) == (
            1,
            "ticketctl: not_on_sale: the sale of event later opens at 2037-07-01 10:00:00 CEST\n",
        )
    piped = ctl("book", "later", "1", port=daemon.port, env=BERLIN)
    assert piped.stderr == "ticketctl: not_on_sale: the sale of event later opens at 2037-07-01T08:00:00Z\n"
    error = msgspec.json.decode(ctl("--json", "book", "later", "1", port=daemon.port, env=BERLIN).stdout)
    assert error["opens"] == "2037-07-01T08:00:00Z"


def test_what_is_no_time_in_an_error_is_shown_as_it_is() -> None:
    message = "it opens at 2027-99-99T99:99:99Z, or at 2027-07-11T18:00:00.123Z"
    refusal = answer("error", code="not_on_sale", message=message)
    with lying(refusal) as liar, terminal("book", "x", "1", port=liar.port, env=BERLIN) as screen:
        said = "ticketctl: not_on_sale: it opens at 2027-99-99T99:99:99Z, or at 2027-07-11 20:00:00 CEST\n"
        assert ended(screen) == (1, said)


def test_a_date_in_the_past_is_a_warning_and_no_error(daemon: Daemon) -> None:
    warning = "ticketctl: warning: date is in the past: 2002-03-11T20:00:00Z\n"
    created = ctl("create", "Old", "2002-03-11T20:00:00Z", "5", "--id", "old", port=daemon.port)
    assert (created.returncode, created.stdout[:4], created.stderr) == (0, "old\t", warning)
    amended = ctl("amend", "old", "--date", "2002-03-11 20:00", "--capacity", "6", port=daemon.port)
    assert (amended.returncode, amended.stderr) == (0, warning)
    assert ctl("-q", "amend", "old", "--date", "2003-03-11T20:00:00Z", port=daemon.port).stderr == ""
    closed = ctl("amend", "old", "--closes", "2002-03-11T19:00:00Z", port=daemon.port)
    assert closed.stderr == "ticketctl: warning: closes is in the past: 2002-03-11T19:00:00Z\n"
    with terminal("amend", "old", "--date", "2001-07-11T18:00:00Z", port=daemon.port, env=BERLIN) as screen:
        status, shown = ended(screen)
    assert (status, shown.splitlines()[0]) == (0, "ticketctl: warning: date is in the past: 2001-07-11 20:00 CEST")


def test_only_what_is_past_and_cannot_be_meant_is_warned_of() -> None:
    now = datetime(2027, 7, 11, 18, tzinfo=UTC)
    before, after = now - timedelta(seconds=1), now + timedelta(seconds=1)
    assert past(Create("X", before, 5, closes=before), now) == {"date": before, "closes": before}
    assert past(Create("X", after, 5, opens=before, closes=after), now) == {}
    assert past(Create("X", now, 5, closes=None), now) == {}
