"""The function in the database by which a daemon saves a batch: in one statement, so in one round trip.

The rules have decided on what the daemon knew. The function locks the events, checks that what was decided still holds,
and then makes all changes, or none. Sales of other daemons in between only shift ``available`` and ``version`` of an
event, by the same amount for all changes of the batch; what it returns shows by how much.

Each statement of a PL/pgSQL function in READ COMMITTED sees what was committed before it began
(https://www.postgresql.org/docs/current/xfunc-volatility.html), so what is checked after the locks cannot change any
more.
"""

from ticketd.ledger.rows import BOOKING_COLUMNS, EVENT_COLUMNS, REDEMPTION_COLUMNS

# SQLSTATE codes that the function raises; then nothing was done. What was decided does not hold any more: load, and
# decide again.
STALE = "TD001"
# Another connection has found out what became of the last commit on this one, which must not commit any more.
FENCED = "TD002"
# The commit would not be synced before it is acknowledged.
NOT_DURABLE = "TD003"

_TYPES = {
    EVENT_COLUMNS: "text text timestamptz int int int int bigint int bigint bigint boolean int int jsonb int",
    BOOKING_COLUMNS: "text text int text jsonb int bigint bigint int bigint text text jsonb",
    REDEMPTION_COLUMNS: "text text int text bigint text text",
}


def _values(columns: str, **others: str) -> str:
    """Return the SQL expressions for ``columns`` of a row that is a JSON array, called ``value`` in the statement.

    ``others`` has expressions to use instead for some of the columns, by name.
    """
    typed = zip(columns.split(", "), _TYPES[columns].split(), strict=True)
    values = {name: _value(place, type) for place, (name, type) in enumerate(typed)}
    return ", ".join({**values, **others}.values())


def _value(place: int, type: str, row: str = "value") -> str:
    """Return the SQL expression for one element of a row in JSON. The first is at place 0."""
    return f"nullif({row} -> {place}, 'null')" if type == "jsonb" else f"({row} ->> {place})::{type}"


def _amended() -> str:
    """Return the SQL assignments of the columns that only ``amend`` changes. ``amended`` is the new row, or null."""
    typed = list(zip(EVENT_COLUMNS.split(", "), _TYPES[EVENT_COLUMNS].split(), strict=True))
    columns = ("name", "date", "opens", "closes", "paused", "per_buyer", "amendments", "original")
    values = {name: _value(place, type, "amended") for place, (name, type) in enumerate(typed) if name in columns}
    return ", ".join(f"{name} = CASE WHEN amended IS NULL THEN {name} ELSE {new} END" for name, new in values.items())


_NOW = "floor(extract(epoch FROM clock_timestamp()) * 1000)"

# The parameters of ``save``. Those in JSON are null if they would be empty. Rows are JSON arrays, counted from
# 0; the row of a table has the columns that ``rows`` names.
#
# - in_connection, in_batch: for ``commits``, the name of the connection and the id of the batch.
# - in_now, in_now_is_known: when the batch was decided, in milliseconds since 1970. If that was not read from the
#   database, it must be within a second of now.
# - in_locks: the ids of the events to lock before in_checks are checked.
# - in_checks: a row for each booking that changes, whose tickets are redeemed, or of which a reply tells, with what it
#   must be now: 0 id, 1 state, 2 number of changes, 3 number of redemptions. If the state is null, it must not exist.
# - in_events: the rows of new events, as they are after the batch.
# - in_shifts: a row for each event that is new or changes, in the order of ids. Differences are from what was known
#   before the batch, or for a new event, from what it is after the batch.
#   0: the id
#   1: the version that the event must have, or null if any will do
#   2: the lowest number of available tickets after any request of the batch, as a difference
#   3 to 7: the differences of capacity, available, held, sold and version
#   8: the row of the event if it was amended, from which the columns are taken that sales do not change; else null
#   9, 10: available and version after the batch, as decided
#   11: the rows of its new bookings
#   12: a row for each of its changed bookings: 0 id, 1 new state, 2 tickets, 3 new changes, 4 expires; 2 and 4 are null
#       if they stay
#   13: how many tickets a buyer may have, as decided
#   14: how many bookings must wait in line, since who waits may be first
#   15: the difference of waiting
# - in_redemptions: the rows of new redemptions.
# - in_expired: an object. By the id of each event whose due holds end, the change that ends them.
# - in_deleted: a row for each event that is deleted: 0 id, 1 the version that it must have, or null if the batch has
#   created it too.
# - in_buyers: a row for each buyer who gets tickets: 0 event, 1 buyer, 2 how many tickets the buyer may have after the
#   batch, or null for any number, 3 the limit of the event after the batch, as decided.
#
# It returns the events of in_shifts as they are now. ``shifted`` adds to available and version of a booking's changes.
SAVE_FUNCTION = f"""
CREATE OR REPLACE FUNCTION shifted(changes jsonb, by_available integer, by_version bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_agg(jsonb_set(jsonb_set(change, '{{1}}', to_jsonb((change ->> 1)::bigint + by_available)),
        '{{2}}', to_jsonb((change ->> 2)::bigint + by_version)) ORDER BY place)
    FROM jsonb_array_elements(nullif(changes, 'null')) WITH ORDINALITY AS each (change, place)
$$;
CREATE OR REPLACE FUNCTION save(
    in_connection text, in_batch text, in_now bigint, in_now_is_known boolean, in_locks text[], in_checks jsonb,
    in_shifts jsonb, in_events jsonb, in_redemptions jsonb, in_expired jsonb, in_deleted jsonb, in_buyers jsonb
) RETURNS SETOF events LANGUAGE plpgsql AS $$
DECLARE
    expected integer;
    done integer;
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        RAISE EXCEPTION 'synchronous_commit is %', current_setting('synchronous_commit') USING ERRCODE = '{
    NOT_DURABLE
}';
    END IF;
    IF NOT in_now_is_known AND abs(extract(epoch FROM clock_timestamp()) * 1000 - in_now) > 1000 THEN
        RAISE EXCEPTION 'decided at another time' USING ERRCODE = '{STALE}';
    END IF;
    IF in_checks IS NOT NULL THEN
        -- Whatever changes a booking or its tickets locks its event.
        PERFORM FROM events WHERE id = ANY(in_locks) ORDER BY id FOR UPDATE;
        PERFORM FROM jsonb_array_elements(in_checks) LEFT JOIN bookings ON id = value ->> 0
        WHERE CASE WHEN value -> 1 = 'null' THEN id IS NOT NULL ELSE (
            state = value ->> 1 AND coalesce(jsonb_array_length(changes), 0) = (value ->> 2)::int
            AND (SELECT count(*) FROM redemptions WHERE booking = bookings.id) = (value ->> 3)::int
        ) IS NOT TRUE END;
        IF FOUND THEN
            RAISE EXCEPTION 'a booking has changed' USING ERRCODE = '{STALE}';
        END IF;
    END IF;
    IF in_deleted IS NOT NULL THEN
        DELETE FROM events USING jsonb_array_elements(in_deleted)
        WHERE id = value ->> 0 AND version = (value ->> 1)::bigint;
        GET DIAGNOSTICS done = ROW_COUNT;
        -- What the batch has created too must not be there yet.
        IF done <> (SELECT count(*) FROM jsonb_array_elements(in_deleted) WHERE value -> 1 <> 'null') OR EXISTS (
            SELECT FROM events JOIN jsonb_array_elements(in_deleted) ON id = value ->> 0 WHERE value -> 1 = 'null'
        ) THEN
            RAISE EXCEPTION 'an event has changed' USING ERRCODE = '{STALE}';
        END IF;
        -- A trigger has noted those that were there.
        INSERT INTO removals (event)
        SELECT value ->> 0 FROM jsonb_array_elements(in_deleted) WHERE value -> 1 = 'null'
        ON CONFLICT (event) DO UPDATE SET changed = excluded.changed;
    END IF;
    IF in_events IS NOT NULL THEN
        INSERT INTO events ({EVENT_COLUMNS})
        SELECT {_values(EVENT_COLUMNS)} FROM jsonb_array_elements(in_events);
    END IF;
    IF in_shifts IS NOT NULL THEN
        expected := jsonb_array_length(in_shifts);
        RETURN QUERY
        WITH changed AS (
            UPDATE events SET capacity = capacity + (value ->> 3)::int, available = available + (value ->> 4)::int,
                held = held + (value ->> 5)::int, sold = sold + (value ->> 6)::int,
                version = version + (value ->> 7)::int, waiting = waiting + (value ->> 15)::int,
                changed = pg_current_xact_id(), {_amended()}
            FROM (
                SELECT value, nullif(value -> 8, 'null') AS amended FROM jsonb_array_elements(in_shifts)
            ) AS shifts
            WHERE id = value ->> 0 AND version = coalesce((value ->> 1)::bigint, version)
                AND available + least((value ->> 2)::int, 0) >= 0 AND waiting = (value ->> 14)::int
                AND (held = 0 OR in_expired ? id OR NOT EXISTS (
                    SELECT FROM bookings WHERE state = 'held' AND event = events.id AND expires <= in_now
                ))
                -- Whether it is on sale, unless nothing of it may have changed since that was decided: now, and by the
                -- time of the batch, which its bookings show.
                AND (value -> 11 = '[]' OR (in_now_is_known AND value -> 1 <> 'null') OR (
                    NOT paused AND per_buyer IS NOT DISTINCT FROM (value ->> 13)::int
                    AND coalesce(opens, 0) <= least(in_now, {_NOW})
                    AND (closes IS NULL OR closes > greatest(in_now, {_NOW}))
                ))
            RETURNING events, available - (value ->> 9)::int AS by_available,
                version - (value ->> 10)::bigint AS by_version, value -> 11 AS new_bookings, value -> 12 AS old_bookings
        ), made AS (
            INSERT INTO bookings ({BOOKING_COLUMNS})
            SELECT {
    _values(
        BOOKING_COLUMNS,
        available="(value ->> 5)::int + by_available",
        version="(value ->> 6)::bigint + by_version",
        changes="CASE WHEN value -> 12 <> 'null' THEN shifted(value -> 12, by_available, by_version) END",
    )
}
            FROM changed, jsonb_array_elements(new_bookings)
        ), altered AS (
            UPDATE bookings SET state = value ->> 1, tickets = coalesce(nullif(value -> 2, 'null'), tickets),
                expires = coalesce((value ->> 4)::bigint, expires),
                changes = coalesce(changes, '[]') || shifted(value -> 3, by_available, by_version)
            FROM changed, jsonb_array_elements(old_bookings) WHERE id = value ->> 0
        )
        SELECT (events).* FROM changed;
        GET DIAGNOSTICS done = ROW_COUNT;
        IF done <> expected THEN
            RAISE EXCEPTION 'an event has changed' USING ERRCODE = '{STALE}';
        END IF;
    END IF;
    IF in_redemptions IS NOT NULL THEN
        INSERT INTO redemptions ({REDEMPTION_COLUMNS})
        SELECT {_values(REDEMPTION_COLUMNS)} FROM jsonb_array_elements(in_redemptions);
    END IF;
    IF in_expired IS NOT NULL THEN
        UPDATE bookings
        SET state = 'expired', changes = coalesce(changes, '[]') || jsonb_build_array(in_expired -> event)
        WHERE state = 'held' AND expires <= in_now AND in_expired ? event;
    END IF;
    IF in_buyers IS NOT NULL THEN
        PERFORM FROM jsonb_array_elements(in_buyers) JOIN events ON id = value ->> 0
        WHERE per_buyer IS DISTINCT FROM (value ->> 3)::int
            OR CASE WHEN value -> 2 <> 'null' THEN (value ->> 2)::int < (
                SELECT coalesce(sum(quantity - (
                    SELECT coalesce(sum(jsonb_array_length(change -> 4)), 0)
                    FROM jsonb_array_elements(changes) AS change WHERE change ->> 0 = 'cancel'
                )), 0)
                FROM bookings
                WHERE event = value ->> 0 AND buyer = value ->> 1 AND state IN ('waiting', 'held', 'confirmed')
            ) END;
        IF FOUND THEN
            RAISE EXCEPTION 'a buyer has too many tickets' USING ERRCODE = '{STALE}';
        END IF;
    END IF;
    -- Whoever else gets the lock of this row knows that this batch is committed, or never will be.
    INSERT INTO commits (connection, batch) VALUES (in_connection, in_batch)
    ON CONFLICT (connection) DO UPDATE SET batch = excluded.batch, at = excluded.at WHERE NOT commits.fenced;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the connection is fenced off' USING ERRCODE = '{FENCED}';
    END IF;
END $$;
"""
