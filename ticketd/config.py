"""The settings of the daemon: its limits, its options and its exit statuses.

Every limit has its unit in its name, and is a flag and an environment variable too.
"""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT
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
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
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
    waiting_max: Annotated[Count, Meta(description="connections that may wait for a place")] = 1_024
    waiting_seconds_max: Annotated[Seconds, Meta(description="how long a connection waits for a place")] = 10.0
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
        int, Meta(ge=0, le=1_000_000, description="bookings and holds of one token in a second; 0 is no limit")
    ] = 0
    rows_per_event_max: Annotated[Count, Meta(description="bookings and tickets of one event in one commit")] = 1_024
    rows_per_commit_max: Annotated[Count, Meta(description="bookings and tickets in one commit")] = 2_048


class Options(Struct):
    """What flags, environment and defaults say."""

    host: str
    port: int
    events: Path
    # Whether the events file is kept up to date. If not, it is read once, at the start.
    sync_events: bool
    ledger: str
    accept_losses: bool
    log_level: str
    limits: Limits
    # The access file, or None if everybody may do everything.
    access: Path | None = None
    open_to_the_network: bool = False
    plain_tokens: bool = False
    words: bool = True
    unix: Path | None = None
    unix_mode: int = 0o600
    tls_certificate: Path | None = None
    tls_key: Path | None = None
