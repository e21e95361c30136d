"""The function in the database by which a daemon saves a batch: in one statement, so in one round trip.

The rules have decided on what the daemon knew. The function locks the events, checks that what was decided still holds,
and then makes all changes, or none. Sales of other daemons in between only shift ``available`` and ``version`` of an
event, by the same amount for all changes of the batch; what it returns shows by how much.

Each statement of a PL/pgSQL function in READ COMMITTED sees what was committed before it began
(https://www.postgresql.org/docs/current/xfunc-volatility.html), so what is checked after the locks cannot change any
more.
"""

from ticketd.ledger.rows import BOOKING_COLUMNS, EVENT_COLUMNS, REDEMPTION_COLUMNS

# What was decided does not hold any more. Nothing was done: load, and decide again.
STALE = "TD001"
# Another connection has found out what became of the last commit on this one, so nothing may follow.
FENCED = "TD002"
# The commit would not be synced before it is acknowledged. Nothing was done.
NOT_DURABLE = "TD003"

_TYPES = {
    EVENT_COLUMNS: "text text timestamptz int int int int bigint int jsonb",
    BOOKING_COLUMNS: "text text int text jsonb int bigint int bigint jsonb",
    REDEMPTION_COLUMNS: "text text bigint",
}


def _values(columns: str, **others: str) -> str:
    """Return the expressions of the columns of a row that is ``value``, an array of JSON; some may be others."""
    typed = zip(columns.split(", "), _TYPES[columns].split(), strict=True)
    values = {name: _value(place, type) for place, (name, type) in enumerate(typed)}
    return ", ".join({**values, **others}.values())


def _value(place: int, type: str) -> str:
    return f"nullif(value -> {place}, 'null')" if type == "jsonb" else f"(value ->> {place})::{type}"


# ``shifts`` has a row for each event that exists and changes, in the order of ids: its id, the version that it must
# have (null if any will do), the lowest that its available tickets got, relative to before; by how much capacity,
# available, held, sold and version change; its new name, date and original (null if they stay); available and version
# after the batch as decided; its new bookings; and its changed bookings, each with id, state, tickets (null if they
# stay) and new changes.
SAVE_FUNCTION = f"""
CREATE FUNCTION shifted(changes jsonb, by_available integer, by_version bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_agg(jsonb_set(jsonb_set(change, '{{1}}', to_jsonb((change ->> 1)::bigint + by_available)),
        '{{2}}', to_jsonb((change ->> 2)::bigint + by_version)) ORDER BY place)
    FROM jsonb_array_elements(nullif(changes, 'null')) WITH ORDINALITY AS each (change, place)
$$;
CREATE FUNCTION save(
    in_connection text, in_batch text, in_now bigint, in_locks text[], in_checks jsonb, in_shifts jsonb,
    in_events jsonb, in_redemptions jsonb, in_expired jsonb
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
    IF abs(extract(epoch FROM clock_timestamp()) * 1000 - in_now) > 1000 THEN
        RAISE EXCEPTION 'decided at another time' USING ERRCODE = '{STALE}';
    END IF;
    IF in_checks IS NOT NULL THEN
        -- Whatever changes a booking or its tickets locks its event.
        PERFORM FROM events WHERE id = ANY(in_locks) ORDER BY id FOR UPDATE;
        PERFORM FROM jsonb_array_elements(in_checks) LEFT JOIN bookings ON id = value ->> 0
            AND state = value ->> 1 AND coalesce(jsonb_array_length(changes), 0) = (value ->> 2)::int
            AND (SELECT count(*) FROM redemptions WHERE booking = bookings.id) = (value ->> 3)::int
        WHERE id IS NULL;
        IF FOUND THEN
            RAISE EXCEPTION 'a booking has changed' USING ERRCODE = '{STALE}';
        END IF;
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
                version = version + (value ->> 7)::int, name = coalesce(value ->> 8, name),
                date = coalesce((value ->> 9)::timestamptz, date),
                original = coalesce(nullif(value -> 10, 'null'), original), changed = pg_current_xact_id()
            FROM jsonb_array_elements(in_shifts)
            WHERE id = value ->> 0 AND version = coalesce((value ->> 1)::bigint, version)
                AND available + least((value ->> 2)::int, 0) >= 0
                AND (held = 0 OR in_expired ? id OR NOT EXISTS (
                    SELECT FROM bookings WHERE state = 'held' AND event = events.id AND expires <= in_now
                ))
            RETURNING events, available - (value ->> 11)::int AS by_available,
                version - (value ->> 12)::bigint AS by_version, value -> 13 AS new_bookings, value -> 14 AS old_bookings
        ), made AS (
            INSERT INTO bookings ({BOOKING_COLUMNS})
            SELECT {
    _values(
        BOOKING_COLUMNS,
        available="(value ->> 5)::int + by_available",
        version="(value ->> 6)::bigint + by_version",
        changes="shifted(value -> 9, by_available, by_version)",
    )
}
            FROM changed, jsonb_array_elements(new_bookings)
        ), altered AS (
            UPDATE bookings SET state = value ->> 1, tickets = coalesce(nullif(value -> 2, 'null'), tickets),
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
        UPDATE bookings SET state = 'expired', changes = in_expired -> event
        WHERE state = 'held' AND expires <= in_now AND in_expired ? event;
    END IF;
    -- Whoever else gets the lock of this row knows that this batch is committed, or never will be.
    INSERT INTO commits (connection, batch) VALUES (in_connection, in_batch)
    ON CONFLICT (connection) DO UPDATE SET batch = excluded.batch, at = excluded.at WHERE NOT commits.fenced;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the connection is fenced off' USING ERRCODE = '{FENCED}';
    END IF;
END $$;
"""
