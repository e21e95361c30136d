"""Saves the changes of a batch by one statement.

Its parameters are JSON with an array per row, as Structs are encoded. That is much faster than an array per column.
"""

from collections.abc import Collection, Mapping

import msgspec

from ticketd.ledger.postgres.pool import PooledConnection
from ticketd.ledger.rows import BOOKING_COLUMNS, EVENT_COLUMNS, REDEMPTION_COLUMNS
from ticketd.rules.working_set import WorkingSet

_TYPES = {
    EVENT_COLUMNS: "text text timestamptz int int int int bigint int jsonb",
    BOOKING_COLUMNS: "text text int text jsonb int bigint int bigint jsonb",
    REDEMPTION_COLUMNS: "text text bigint",
}


def values_of(columns: str) -> dict[str, str]:
    """Return the expression of each column of a row that is ``value``, an array of JSON."""
    typed = zip(columns.split(", "), _TYPES[columns].split(), strict=True)
    return {
        name: f"nullif(value -> {place}, 'null')" if type == "jsonb" else f"(value ->> {place})::{type}"
        for place, (name, type) in enumerate(typed)
    }


def _insert(table: str, columns: str, parameter: str) -> str:
    values = ", ".join(values_of(columns).values())
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM jsonb_array_elements({parameter}::jsonb)"


def _update(table: str, columns: str, parameter: str, changing: str, more: str = "") -> str:
    values = values_of(columns)
    changes = ", ".join(f"{name} = {values[name]}" for name in changing.split(", "))
    return f"UPDATE {table} SET {changes}{more} FROM jsonb_array_elements({parameter}::jsonb) WHERE id = value ->> 0"


_SAVE = f"""
WITH mark AS (
    INSERT INTO commits (connection, batch) VALUES ($1, $2)
    ON CONFLICT (connection) DO UPDATE SET batch = excluded.batch, at = excluded.at
), new_events AS (
    {_insert("events", EVENT_COLUMNS, "$3")}
), changed_events AS (
    {_update("events", EVENT_COLUMNS, "$4", EVENT_COLUMNS.removeprefix("id, "), ", changed = pg_current_xact_id()")}
), new_bookings AS (
    {_insert("bookings", BOOKING_COLUMNS, "$5")}
), changed_bookings AS (
    {_update("bookings", BOOKING_COLUMNS, "$6", "state, tickets, changes")}
), new_redemptions AS (
    {_insert("redemptions", REDEMPTION_COLUMNS, "$7")}
), expired AS (
    UPDATE bookings SET state = 'expired', changes = $8::jsonb -> event
    WHERE state = 'held' AND expires <= $9 AND $8::jsonb ? event
)
SELECT
"""

_encode = msgspec.json.Encoder().encode


async def save(
    connection: PooledConnection,
    working_set: WorkingSet,
    events_before: Collection[str],
    bookings_before: Collection[str],
    batch: str,
) -> None:
    """Save the changes, and record the id ``batch``. ``*_before`` are the ids of rows that exist already."""
    expired = working_set.expired
    await connection.execute(
        _SAVE,
        connection.name,
        batch,
        *_new_and_changed(working_set.changed_events, events_before),
        *_new_and_changed(working_set.changed_bookings, bookings_before),
        rows_of(working_set.new_redemptions),
        rows_of({event: [change] for event, change in expired.items()}),
        working_set.now if expired else None,
    )


def rows_of(structs: object) -> str:
    """Return Structs as a parameter of a statement."""
    return _encode(structs).decode()


def _new_and_changed(structs: Mapping[str, object], before: Collection[str]) -> tuple[str, str]:
    new = [struct for id, struct in structs.items() if id not in before]
    changed = [struct for id, struct in structs.items() if id in before]
    return rows_of(new), rows_of(changed)
