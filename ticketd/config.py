"""The settings of the daemon: its limits, its options and its exit statuses.

Each of them but the exit statuses is a flag, an environment variable and a key of the config file: see ``settings``.
Every limit has its unit in its name.
"""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT
from ticketd.wire import PORT
from ticketd.wire.lines import FRAME_BYTES_MAX

STATUS_ENDED = 0
STATUS_USAGE = 2
STATUS_CANNOT_LISTEN = 3
STATUS_EVENTS_FILE = 4
STATUS_CANNOT_OPEN = 5
STATUS_LEDGER_FAILED = 6
STATUS_BUG = 7

# The ``retry_after`` of errors where waiting helps.
RETRY_AFTER_SECONDS = 1.0

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400, extra={"metavar": "SECONDS"})]
Bytes = Annotated[int, Meta(ge=1_024, le=16_777_216)]


class Limits(Struct, frozen=True):
    """The limits, which protocol.md lists too. The description of a field is its help text."""

    connections_max: Annotated[Count, Meta(description="connections served at once")] = 1_024
    connections_per_address_max: Annotated[
        Count, Meta(description="connections of one address, served or waiting; by default a quarter of all")
    ] = 256
    loopback_places: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="places reserved for loopback, which then has no limit per address; 0 turns off both",
        ),
    ] = 16
    connections_waiting_max: Annotated[Count, Meta(description="connections that may wait for a place")] = 1_024
    connections_waiting_seconds_max: Annotated[Seconds, Meta(description="how long a connection waits for a place")] = (
        10.0
    )
    frame_bytes_max: Annotated[Bytes, Meta(description="length of a request line")] = FRAME_BYTES_MAX
    frames_in_flight_max: Annotated[Count, Meta(description="requests of one connection in one commit")] = 64
    idle_seconds_max: Annotated[Seconds, Meta(description="how long a connection may be silent")] = 300.0
    frame_seconds_max: Annotated[Seconds, Meta(description="how long a line may take from its first byte")] = 20.0
    write_seconds_max: Annotated[Seconds, Meta(description="how long a client may leave its replies unread")] = 10.0
    queue_seconds_max: Annotated[Seconds, Meta(description="how long a request waits in its queue")] = 8.0
    commit_seconds_max: Annotated[Seconds, Meta(description="how long a commit may take")] = 30.0
    drain_seconds_max: Annotated[Seconds, Meta(description="how long the daemon takes to end")] = 10.0
    hold_seconds_total_max: Annotated[
        int, Meta(ge=1, le=31_536_000, description="how long a hold may last in all, however often it is extended")
    ] = HOLD_SECONDS_TOTAL_MAX_DEFAULT
    events_max: Annotated[Count, Meta(description="events in the catalogue")] = 100_000
    sales_per_second_max: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="requests of one token in a second to book, hold or wait; 0 is no limit"),
    ] = 0
    rows_per_event_max: Annotated[Count, Meta(description="bookings and tickets of one event in one commit")] = 1_024
    rows_per_commit_max: Annotated[Count, Meta(description="bookings and tickets in one commit")] = 2_048


Flag = Annotated[bool, Meta(title="true or false")]
File = Annotated[str, Meta(min_length=1, title="the path of a file", extra={"metavar": "FILE"})]
_SECURITY = "who may do what"
_WATCHING = "watching it"


class Settings(Struct, frozen=True):
    """What the daemon is told beside its limits. The description of a field is its help text; an empty text is none."""

    host: Annotated[
        str, Meta(min_length=1, title="a name or an address", description="address to listen on", extra={"short": "-H"})
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="port to listen on, 0 for a free one", extra={"short": "-p"})
    ] = PORT
    events: Annotated[File, Meta(description="the catalogue file")] = "events.json"
    ledger: Annotated[
        str,
        Meta(
            title="a path or a URL that begins with postgresql://",
            description="the ledger: a path (by default events.db beside the events file), or"
            " postgresql://user@host/database, which many daemons may share; then the events file is read once and not"
            " written, unless --events is given",
        ),
    ] = ""
    unix: Annotated[
        str, Meta(min_length=1, title="a path", description="listen on a unix socket too", extra={"metavar": "PATH"})
    ] = ""
    unix_mode: Annotated[
        str,
        Meta(
            pattern=r"^0?[0-7]{3}\Z",
            title="three octal digits, such as 660",
            description="its file mode: who may connect",
            extra={"metavar": "MODE"},
        ),
    ] = "600"
    access: Annotated[
        File, Meta(description="the access file, which ticketd access add makes", extra={"group": _SECURITY})
    ] = ""
    open_to_the_network: Annotated[
        Flag,
        Meta(
            description="let everybody do everything, without an access file, also from other machines",
            extra={"group": _SECURITY},
        ),
    ] = False
    tls_certificate: Annotated[
        File, Meta(description="speak TLS, with this certificate chain (PEM)", extra={"group": _SECURITY})
    ] = ""
    tls_key: Annotated[
        File, Meta(description="its key (PEM), if that is in another file", extra={"group": _SECURITY})
    ] = ""
    plain_tokens: Annotated[
        Flag,
        Meta(
            description="take tokens without TLS from other machines, where others can read them",
            extra={"group": _SECURITY},
        ),
    ] = False
    no_words: Annotated[
        Flag, Meta(description="take only JSON, for shops that join strings", extra={"group": _SECURITY})
    ] = False
    metrics: Annotated[
        str,
        Meta(
            pattern=r"^(.+:)?[0-9]{1,5}\Z",
            title="PORT or HOST:PORT",
            description="answer GET /metrics, /livez and /readyz over HTTP there, on 127.0.0.1 without a host",
            extra={"group": _WATCHING, "metavar": "[HOST:]PORT"},
        ),
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="what is logged: this, and what is worse", extra={"group": _WATCHING}),
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="how it is logged", extra={"group": _WATCHING})] = (
        "text"
    )
    log_sales: Annotated[
        Flag, Meta(description="name each sale in the log, however many there are", extra={"group": _WATCHING})
    ] = False


class Options(Struct):
    """What flags, environment, config file and defaults say."""

    host: str
    port: int
    events: Path
    # Whether the events file is kept up to date. If not, it is read once, at the start.
    sync_events: bool
    ledger: str
    accept_losses: bool
    limits: Limits
    log_level: str = "info"
    log_format: str = "text"
    # Whether each change has a line in the log, however many there are.
    log_sales: bool = False
    # Where the metrics are, or None if nowhere.
    metrics: tuple[str, int] | None = None
    # The access file, or None if everybody may do everything.
    access: Path | None = None
    open_to_the_network: bool = False
    plain_tokens: bool = False
    words: bool = True
    unix: Path | None = None
    unix_mode: int = 0o600
    tls_certificate: Path | None = None
    tls_key: Path | None = None
