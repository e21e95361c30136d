"""Every limit of the daemon, each with its unit in its name. Each field is a flag and an environment variable too."""

from typing import Annotated

from msgspec import Meta, Struct

from ticketd.protocol import FRAME_BYTES_MAX

Count = Annotated[int, Meta(ge=1, le=1_000_000, title="a whole number from 1 to 1000000")]
Seconds = Annotated[float, Meta(gt=0, le=86_400, title="a number of seconds above 0, up to 86400")]
Bytes = Annotated[int, Meta(ge=1_024, le=16_777_216, title="a number of bytes from 1024 to 16777216")]


class Limits(Struct, frozen=True):
    """The limits, which protocol.md tells too. The description of a field is its help text."""

    connections_max: Annotated[Count, Meta(description="connections served at once")] = 1_024
    waiting_max: Annotated[Count, Meta(description="connections that may wait at the door")] = 1_024
    door_seconds_max: Annotated[Seconds, Meta(description="how long a connection waits at the door")] = 10.0
    frame_bytes_max: Annotated[Bytes, Meta(description="length of a request line")] = FRAME_BYTES_MAX
    frames_in_flight_max: Annotated[Count, Meta(description="requests of one connection in one commit")] = 64
    idle_seconds_max: Annotated[Seconds, Meta(description="how long a connection may be silent")] = 300.0
    frame_seconds_max: Annotated[Seconds, Meta(description="how long a line may take from its first byte")] = 20.0
    write_seconds_max: Annotated[Seconds, Meta(description="how long a client may leave its replies unread")] = 10.0
    desk_seconds_max: Annotated[Seconds, Meta(description="how long a request waits for its turn")] = 8.0
    commit_seconds_max: Annotated[Seconds, Meta(description="how long a commit may take")] = 30.0
    drain_seconds_max: Annotated[Seconds, Meta(description="how long the end may take")] = 10.0
    rows_per_desk_max: Annotated[Count, Meta(description="bookings and tickets of one event in one commit")] = 1_024
    rows_per_commit_max: Annotated[Count, Meta(description="bookings and tickets in one commit")] = 2_048
