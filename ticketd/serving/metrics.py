"""The metrics of the daemon, made of what it counts anyway whenever somebody asks for them.

Names follow https://prometheus.io/docs/practices/naming/. What is counted since the start ends in ``_total``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from operator import attrgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ticketd import __version__
from ticketd.commits.timings import BOUNDS_SECONDS, Histogram
from ticketd.rules.working_set import LedgerRequest
from ticketd.serving.service import Service
from ticketd.wire.replies import ReadyReply
from ticketd.wire.requests import Request

STATES = ("available", "held", "sold")
_WAITING = attrgetter("waiting")
_INTERNAL = ""


class Metrics(Collector):
    """The metrics of a service. Collected on the loop: in a few milliseconds, but longer with very many events."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Yield all of them."""
        yield _labelled(GaugeMetricFamily, "build_info", "Which version this is; always 1", "version", {__version__: 1})
        yield from self._connections()
        yield from self._requests()
        yield from self._commits()
        yield from self._events()

    def _connections(self) -> Iterator[Metric]:
        service = self._service
        ready = isinstance(service.ready(), ReadyReply)
        yield _gauge("ready", "Whether it can sell now: 1, else 0", ready)
        yield _gauge("connections", "Connections that are served", service.connections)
        yield _gauge("connections_max", "How many connections are served at once", service.limits.connections_max)
        yield _gauge("connections_waiting", "Connections that wait for a place", service.places.waiting)
        yield _gauge("watchers", "Connections that watch", service.watching)

    def _requests(self) -> Iterator[Metric]:
        service, activity = self._service, self._service.committer.activity
        yield _counter("requests_received", "Lines received, valid requests or not", service.requests)
        requests: Counter[str] = Counter()
        for counts in (activity.requests, service.answered):
            for kind, number in counts.items():
                requests[_command(kind)] += number
        del requests[_INTERNAL]
        text = "Requests that were answered, refused ones too"
        yield _labelled(CounterMetricFamily, "requests", text, "command", requests)
        refusals = CounterMetricFamily(
            "ticketd_refusals",
            "Refused writes, and requests that the role does not allow",
            labels=["command", "code"],
        )
        for (kind, code), number in activity.refusals().items():
            if (name := _command(kind)) != _INTERNAL:
                refusals.add_metric([name, code], number)
        yield refusals

    def _commits(self) -> Iterator[Metric]:
        committer = self._service.committer
        counts, timings = committer.activity.counts, committer.activity.timings
        waiting = {"commits": committer.queued - len(committer.reader), "reads": len(committer.reader)}
        yield _labelled(GaugeMetricFamily, "queue_length", "Submissions that wait", "queue", waiting)
        yield _gauge("commits_in_flight", "Commits that have begun and not ended", committer.health.in_flight)
        yield _counter("commits", "Commits that changed something", counts.commits)
        yield _counter("bookings", "Bookings that were sold", counts.bookings)
        yield _counter("tickets_sold", "Tickets that were sold, those that were cancelled later too", counts.tickets)
        yield _counter("offers", "Bookings that got their tickets after they had waited in line", counts.offered)
        yield _histogram(
            "queue_wait_seconds", "How long the first request of each commit had waited in its queue", timings.queue
        )
        yield _histogram("commit_seconds", "From the beginning of a commit until it was durable", timings.commit)
        yield _histogram("sync_seconds", "Of that, how long the ledger wrote and synced", timings.sync)

    def _events(self) -> Iterator[Metric]:
        catalogue = self._service.catalogue
        events = catalogue.events()
        yield _gauge("events", "Events in the catalogue", len(events))
        totals = {state: sum(map(attrgetter(state), events)) for state in STATES}
        yield _labelled(GaugeMetricFamily, "tickets", "Tickets of all events, by their state", "state", totals)
        yield _gauge("bookings_waiting", "Bookings that wait in line, of all events", sum(map(_WAITING, events)))
        # At most so many, since each is a time series of its own.
        shown = [catalogue.get(stats.id) for stats in self._service.committer.activity.busiest()]
        busiest = [event for event in shown if event]
        tickets = GaugeMetricFamily(
            "ticketd_event_tickets",
            "Tickets of the 100 events with the most requests since the start, by their state",
            labels=["event", "state"],
        )
        for event in busiest:
            for state in STATES:
                tickets.add_metric([event.id, state], getattr(event, state))
        yield tickets
        text = "Bookings that wait in line, of each of these events"
        waiting = {event.id: event.waiting for event in busiest}
        yield _labelled(GaugeMetricFamily, "event_bookings_waiting", text, "event", waiting)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ticketd_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"ticketd_{name}", text, value)


def _labelled(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(f"ticketd_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, BOUNDS_SECONDS), "+Inf"]
    counts = accumulate(histogram.counts)
    return HistogramMetricFamily(
        f"ticketd_{name}", text, buckets=list(zip(bounds, counts, strict=True)), sum_value=histogram.sum
    )


def _command(kind: type[LedgerRequest]) -> str:
    """Return the name of a command, or _INTERNAL for what the daemon itself submits."""
    return str(kind.__struct_config__.tag) if issubclass(kind, Request) else _INTERNAL
