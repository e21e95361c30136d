"""Owns the tables of the embedded ledger."""

from ticketd.model import CAPACITY_MAX, TICKETS_PER_BOOKING_MAX

APPLICATION_ID = 0x7469636B  # "tick", which identifies the file as a ledger
SCHEMA_VERSION = 7

# Changes of a booking that move no ticket: no count of its event shows that one of them is missing.
STILL = ("extend", "reissue")
# How many of them a booking had. JSON is read only where there are some.
STILL_NUMBER = """CASE WHEN instr(changes, '"extend"') OR instr(changes, '"reissue"')
    THEN (SELECT count(*) FROM json_each(changes) WHERE value ->> 0 IN ('extend', 'reissue')) ELSE 0 END"""
# What ``total`` of the ledger must be.
TOTAL = f"""(
    (SELECT count(*) + ifnull(sum(version), 0) FROM events)
    + (SELECT count(*) + ifnull(sum({STILL_NUMBER}), 0) FROM bookings)
    + (SELECT count(*) FROM redemptions) + (SELECT count(*) FROM removals)
)"""
# The digest of a booking with many tickets or changes. Such a row continues on overflow pages.
DIGEST = "sha1(id || tickets || ifnull(changes, ''))"
# Shorter rows have no digest: with ids of 64 characters, all of them fit into their page.
SHORT_BYTES_MAX = 500

# Whether the tickets of a booking count for the limit of its buyer. With IN, SQLite would search a table of them.
IS_OWNED = "(state = 'confirmed' OR state = 'held' OR state = 'waiting')"

# A booking is one row in one B-tree, and its tickets stand in it, as a JSON array. What becomes of a ticket is written
# only when it happens: in the changes of the booking, or as a row of redemptions. The index `holds` has active holds
# only, `line` those that wait, and `buyers` bookings with a buyer, so a plain booking does not touch them. `removals`
# are events that were removed. `ledger` is one row: the number of commits, the number when the log was last folded into
# the file, a total that shows whether rows are missing or old (the number of rows in all other tables, the versions of
# all events, and the number of changes that are STILL), and the mark of a move. Times are in milliseconds since 1970.
SCHEMA = f"""
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    date TEXT NOT NULL,
    capacity INTEGER NOT NULL CHECK (capacity BETWEEN 1 AND {CAPACITY_MAX}),
    available INTEGER NOT NULL CHECK (available >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    sold INTEGER NOT NULL CHECK (sold >= sold_elsewhere),
    version INTEGER NOT NULL CHECK (version >= 0),
    sold_elsewhere INTEGER NOT NULL CHECK (sold_elsewhere >= 0),
    opens INTEGER,
    closes INTEGER,
    paused INTEGER NOT NULL,
    per_buyer INTEGER,
    amendments INTEGER NOT NULL CHECK (amendments BETWEEN 0 AND version),
    original TEXT,
    waiting INTEGER NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    CHECK (sold + held + available = capacity)
) STRICT;
CREATE TABLE bookings (
    id TEXT PRIMARY KEY,
    event TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND {TICKETS_PER_BOOKING_MAX}),
    state TEXT NOT NULL
        CHECK (state = 'confirmed' OR state IN ('waiting', 'held', 'released', 'expired', 'cancelled')),
    available INTEGER NOT NULL CHECK (available >= 0),
    version INTEGER NOT NULL CHECK (version > 0),
    booked_at INTEGER NOT NULL,
    seconds INTEGER,
    expires INTEGER,
    buyer TEXT,
    actor TEXT,
    digest TEXT AS (
        CASE WHEN octet_length(tickets) + ifnull(octet_length(changes), 0) > {SHORT_BYTES_MAX} THEN {DIGEST} END
    ) STORED,
    tickets TEXT NOT NULL,
    changes TEXT,
    CHECK (seconds NOTNULL OR expires IS NULL),
    CHECK (state = 'confirmed' OR CASE state
        WHEN 'held' THEN expires NOTNULL
        WHEN 'waiting' THEN seconds NOTNULL AND expires IS NULL
        ELSE true END)
) STRICT, WITHOUT ROWID;
CREATE INDEX holds ON bookings (expires, event, quantity) WHERE state = 'held';
CREATE INDEX line ON bookings (event, quantity, version) WHERE state = 'waiting';
CREATE INDEX buyers ON bookings (event, buyer) WHERE buyer IS NOT NULL AND {IS_OWNED};
CREATE TABLE redemptions (
    booking TEXT NOT NULL,
    ticket TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    what TEXT NOT NULL CHECK (what IN ('redeem', 'annul')),
    at INTEGER NOT NULL,
    note TEXT,
    actor TEXT,
    PRIMARY KEY (booking, ticket, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE removals (event TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE ledger (
    commits INTEGER NOT NULL,
    folded INTEGER NOT NULL,
    total INTEGER NOT NULL,
    move TEXT,
    arriving_from TEXT,
    moved_to TEXT
) STRICT;
INSERT INTO ledger VALUES (0, 0, 0, NULL, NULL, NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
