"""Times as people write and read them: in a zone of theirs, by its name.

Owns the zone, the time of day that a moment is there, and the moment that a time of day is there. What goes over the
wire, into a pipe or into JSON is UTC, and none of its business.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from ticketd.errors import TicketError
from ticketd.model import printable
from ticketd.wire import words
from ticketd.wire.requests import Amend, Create, Request
from ticketd.wire.schema import Field, shown

# A day and a time. After them may stand an offset, as in RFC 3339, or the name that the zone has at that time.
_TYPED = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[Tt ](?P<time>\d\d:\d\d(?P<seconds>:\d\d(?:\.\d{1,6})?)?)"
    r"(?: ?(?P<offset>[Zz]|[+-]\d\d:\d\d)| (?P<name>UTC[+-]\d\d(?::\d\d)?|[A-Za-z]{2,5}))?",
    re.ASCII,
)
# The time in error messages.
_EXAMPLE = datetime(2027, 7, 11, 20)
# What the system's zone may raise for times at the ends of the calendar.
_OUT_OF_RANGE = (OverflowError, ValueError, OSError)


class Zone:
    """The zone with an IANA name such as Europe/Berlin, or without a name the local one, which TZ may set."""

    def __init__(self, name: str | None = None) -> None:
        """Raises ValueError, which says what is wrong, if no zone has the name."""
        self._name = name or "the local time zone"
        # datetime takes None for the local zone.
        self._tz = _tz(name) if name else None

    def show(self, moment: datetime, *, seconds: bool = False) -> str:
        """Return a moment as people read it: ``2027-07-11 20:00 CEST``.

        It is cut, so that what runs out seems to end early rather than late. Seconds are shown if there are any, or
        always with ``seconds``.
        """
        try:
            local, name = moment.astimezone(self._tz), self._name_at(moment)
        except _OUT_OF_RANGE:
            local, name = moment, "UTC"
        until = "seconds" if seconds or local.second else "minutes"
        return printable(f"{local.replace(tzinfo=None).isoformat(' ', until)} {name}")

    def example(self) -> str:
        """Return how people may write a time here: as it is in this zone, or with an offset."""
        moment = _EXAMPLE.replace(tzinfo=self._tz).astimezone(UTC)
        return f"{_EXAMPLE.isoformat('T', 'minutes')} (in {self._name_at(moment)}) or {rfc3339(moment)}"

    def moment(self, typed: str) -> datetime | None:
        """Return the moment in UTC that is meant by what somebody typed, or None if it is no time without an offset.

        Raises ValueError, which says what is wrong, if there is no such time in this zone, or if it comes twice.
        """
        match = _TYPED.fullmatch(typed)
        if not match or match["offset"]:
            return None
        try:
            local = datetime.fromisoformat(f"{match['day']}T{match['time']}")
            moments = self._moments(local)
        except _OUT_OF_RANGE:
            return None
        if match["name"]:
            return self._named(local, moments, match["name"].upper())
        if not moments:
            near = " or ".join(map(self.show, self._candidates(local)))
            raise ValueError(f"{shown(typed)} is skipped in {self._name}: the clocks go forward then; write {near}")
        if len(moments) > 1:
            either = " or ".join(f"{rfc3339(each)} ({self._name_at(each)})" for each in moments)
            raise ValueError(f"{shown(typed)} comes twice in {self._name}: the clocks go back then; write {either}")
        return moments[0]

    def _moments(self, local: datetime) -> Sequence[datetime]:
        """Return the moments at which clocks show this: one, none where they go forward, two where they go back."""
        return [
            each for each in self._candidates(local) if each.astimezone(self._tz).replace(tzinfo=None, fold=0) == local
        ]

    def _candidates(self, local: datetime) -> Sequence[datetime]:
        """Return the moments at which clocks show this or, where it is skipped, as much before and after it."""
        return sorted({local.replace(tzinfo=self._tz, fold=fold).astimezone(UTC) for fold in (0, 1)})

    def _named(self, local: datetime, moments: Sequence[datetime], name: str) -> datetime:
        """Return the moment at which the zone has this name. UTC is known everywhere."""
        names = {self._name_at(each).upper(): each for each in moments}
        if name == "UTC":
            return local.replace(tzinfo=UTC)
        if name not in names:
            known = f"it is {' or '.join(names)}" if names else "that time does not exist"
            raise ValueError(f"in {self._name} {known}, not {name}; write it as {self.example()}")
        return names[name]

    def _name_at(self, moment: datetime) -> str:
        """Return the name of the zone at a moment, such as CEST; where it has none, its offset, such as UTC+05:45."""
        name = moment.astimezone(self._tz).tzname() or "UTC"
        return f"UTC{name[:3]}{name[3:] and ':' + name[3:5]}" if name[0] in "+-" else name


LOCAL = Zone()


class Reader:
    """Reads a request that somebody typed, with times in their zone. For one request."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        # The fields for which a value was typed.
        self.given: set[str] = set()
        # What was understood, in words, for each time that was typed without an offset.
        self.understood: list[str] = []
        self._wrong: dict[str, str] = {}

    def parse(self, command: Sequence[str]) -> Request:
        """Return the request. Raises TicketError (bad_frame, bad_request or unknown_command)."""
        try:
            return words.parse(list(command), self._value)
        except TicketError as error:
            # If it is about anything but this time, such as a word too many, it explains more than ours would.
            name, is_no_time, _ = error.message.partition(" must be a day and time")
            if is_no_time and name in self._wrong:
                raise TicketError("bad_request", self._wrong[name]) from None
            raise

    def _value(self, field: Field, word: str) -> object:
        self.given.add(field.name)
        if field.type is not datetime or (field.clearable and word == "none"):
            return words.value(field, word)
        try:
            moment = self._zone.moment(word)
        except ValueError as error:
            self._wrong[field.name] = f"{field.name}: {error}"
            return word
        if moment is None:
            like = f"such as {self._zone.example()}{', or none' if field.clearable else ''}"
            self._wrong[field.name] = f"{field.name} must be a day and time, {like}, not {shown(word)}"
            return _as_rfc3339(word)
        self.understood.append(f"{self._zone.show(moment)} is {rfc3339(moment)}")
        return rfc3339(moment)


def past(request: Request, now: datetime) -> dict[str, datetime]:
    """Return those times of an event that a request sets although they are past, by the names of their fields.

    That is allowed, and seldom meant. A sale may well have opened already.
    """
    if not isinstance(request, Create | Amend):
        return {}
    times = {name: getattr(request, name) for name in ("date", "closes")}
    return {name: time for name, time in times.items() if isinstance(time, datetime) and time < now}


def aware(moment: datetime) -> datetime:
    """Return a moment with its offset, whatever a server sends: two can be compared only if both have one."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """Return a moment in UTC as programs read it: ``2027-07-11T18:00:00Z``."""
    return moment.isoformat().replace("+00:00", "Z")


def _as_rfc3339(word: str) -> str:
    """Return a time with an offset as RFC 3339 has it: people leave out the seconds."""
    match = _TYPED.fullmatch(word)
    if not match or not match["offset"]:
        return word
    return f"{match['day']}T{match['time']}{'' if match['seconds'] else ':00'}{match['offset'].upper()}"


def _tz(name: str) -> tzinfo:
    # UTC is known where the system has no tables of zones.
    if name == "UTC":
        return UTC
    # Imported here, because most people only have the local zone.
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    # It opens a file: for "Europe", a folder.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(_unknown(name, zoneinfo.available_timezones())) from None


def _unknown(name: str, names: set[str]) -> str:
    if not names:
        return f"this system has no time zones, so {shown(name)} is not known; install its package tzdata"
    from difflib import get_close_matches

    by_city = {each.rpartition("/")[2].lower(): each for each in sorted(names)}
    by_word = by_city | {each.lower(): each for each in names}
    near = get_close_matches(name.strip().replace(" ", "_").lower(), by_word, 1)
    hint = f"is {by_word[near[0]]} meant?" if near else "one that there is: Europe/Berlin"
    return f"there is no time zone {shown(name)}; {hint}"
