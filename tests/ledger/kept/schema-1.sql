CREATE SCHEMA ticketd;
CREATE FUNCTION ticketd.note_removal() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- The role of a daemon may delete what was never sold, and no more. The owner may delete anything.
    IF (OLD.sold > 0 OR OLD.held > 0 OR OLD.version <> OLD.amendments) AND NOT pg_has_role(
        (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'ticketd'), 'USAGE'
    ) THEN
        RAISE EXCEPTION 'tickets of event % were sold or held', OLD.id USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO ticketd.removals (event) VALUES (OLD.id)
    ON CONFLICT (event) DO UPDATE SET changed = excluded.changed;
    RETURN NULL;
END $$;
CREATE TABLE ticketd.events (
    number bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    date timestamp with time zone NOT NULL,
    capacity integer NOT NULL,
    available integer NOT NULL,
    held integer NOT NULL,
    sold integer NOT NULL,
    version bigint NOT NULL,
    sold_elsewhere integer NOT NULL,
    opens bigint,
    closes bigint,
    paused boolean NOT NULL,
    per_buyer integer,
    amendments integer NOT NULL,
    original jsonb,
    changed xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT events_available_check CHECK ((available >= 0)),
    CONSTRAINT events_capacity_check CHECK (((capacity >= 1) AND (capacity <= 1000000000))),
    CONSTRAINT events_check CHECK (((amendments >= 0) AND (amendments <= version))),
    CONSTRAINT events_check1 CHECK ((sold >= sold_elsewhere)),
    CONSTRAINT events_check2 CHECK ((((sold + held) + available) = capacity)),
    CONSTRAINT events_held_check CHECK ((held >= 0)),
    CONSTRAINT events_sold_elsewhere_check CHECK ((sold_elsewhere >= 0)),
    CONSTRAINT events_version_check CHECK ((version >= 0))
)
WITH (fillfactor='50');
CREATE FUNCTION ticketd.save(in_connection text, in_batch text, in_now bigint, in_now_is_known boolean, in_locks text[], in_checks jsonb, in_shifts jsonb, in_events jsonb, in_redemptions jsonb, in_expired jsonb, in_deleted jsonb, in_buyers jsonb) RETURNS SETOF ticketd.events
    LANGUAGE plpgsql
    AS $$
DECLARE
    expected integer;
    done integer;
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        RAISE EXCEPTION 'synchronous_commit is %', current_setting('synchronous_commit') USING ERRCODE = 'TD003';
    END IF;
    IF NOT in_now_is_known AND abs(extract(epoch FROM clock_timestamp()) * 1000 - in_now) > 1000 THEN
        RAISE EXCEPTION 'decided at another time' USING ERRCODE = 'TD001';
    END IF;
    IF in_checks IS NOT NULL THEN
        -- Whatever changes a booking or its tickets locks its event.
        PERFORM FROM events WHERE id = ANY(in_locks) ORDER BY id FOR UPDATE;
        PERFORM FROM jsonb_array_elements(in_checks) LEFT JOIN bookings ON id = value ->> 0
            AND state = value ->> 1 AND coalesce(jsonb_array_length(changes), 0) = (value ->> 2)::int
            AND (SELECT count(*) FROM redemptions WHERE booking = bookings.id) = (value ->> 3)::int
        WHERE id IS NULL;
        IF FOUND THEN
            RAISE EXCEPTION 'a booking has changed' USING ERRCODE = 'TD001';
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
            RAISE EXCEPTION 'an event has changed' USING ERRCODE = 'TD001';
        END IF;
        -- A trigger has noted those that were there.
        INSERT INTO removals (event)
        SELECT value ->> 0 FROM jsonb_array_elements(in_deleted) WHERE value -> 1 = 'null'
        ON CONFLICT (event) DO UPDATE SET changed = excluded.changed;
    END IF;
    IF in_events IS NOT NULL THEN
        INSERT INTO events (id, name, date, capacity, available, held, sold, version, sold_elsewhere, opens, closes, paused, per_buyer, amendments, original)
        SELECT (value ->> 0)::text, (value ->> 1)::text, (value ->> 2)::timestamptz, (value ->> 3)::int, (value ->> 4)::int, (value ->> 5)::int, (value ->> 6)::int, (value ->> 7)::bigint, (value ->> 8)::int, (value ->> 9)::bigint, (value ->> 10)::bigint, (value ->> 11)::boolean, (value ->> 12)::int, (value ->> 13)::int, nullif(value -> 14, 'null') FROM jsonb_array_elements(in_events);
    END IF;
    IF in_shifts IS NOT NULL THEN
        expected := jsonb_array_length(in_shifts);
        RETURN QUERY
        WITH changed AS (
            UPDATE events SET capacity = capacity + (value ->> 3)::int, available = available + (value ->> 4)::int,
                held = held + (value ->> 5)::int, sold = sold + (value ->> 6)::int,
                version = version + (value ->> 7)::int, changed = pg_current_xact_id(), name = CASE WHEN amended IS NULL THEN name ELSE (amended ->> 1)::text END, date = CASE WHEN amended IS NULL THEN date ELSE (amended ->> 2)::timestamptz END, opens = CASE WHEN amended IS NULL THEN opens ELSE (amended ->> 9)::bigint END, closes = CASE WHEN amended IS NULL THEN closes ELSE (amended ->> 10)::bigint END, paused = CASE WHEN amended IS NULL THEN paused ELSE (amended ->> 11)::boolean END, per_buyer = CASE WHEN amended IS NULL THEN per_buyer ELSE (amended ->> 12)::int END, amendments = CASE WHEN amended IS NULL THEN amendments ELSE (amended ->> 13)::int END, original = CASE WHEN amended IS NULL THEN original ELSE nullif(amended -> 14, 'null') END
            FROM (
                SELECT value, nullif(value -> 8, 'null') AS amended FROM jsonb_array_elements(in_shifts)
            ) AS shifts
            WHERE id = value ->> 0 AND version = coalesce((value ->> 1)::bigint, version)
                AND available + least((value ->> 2)::int, 0) >= 0
                AND (held = 0 OR in_expired ? id OR NOT EXISTS (
                    SELECT FROM bookings WHERE state = 'held' AND event = events.id AND expires <= in_now
                ))
                -- Whether it is on sale, unless nothing of it may have changed since that was decided.
                AND (value -> 11 = '[]' OR (in_now_is_known AND value -> 1 <> 'null') OR (
                    NOT paused AND per_buyer IS NOT DISTINCT FROM (value ->> 13)::int
                    AND (opens IS NULL OR opens <= floor(extract(epoch FROM clock_timestamp()) * 1000)) AND (closes IS NULL OR closes > floor(extract(epoch FROM clock_timestamp()) * 1000))
                ))
            RETURNING events, available - (value ->> 9)::int AS by_available,
                version - (value ->> 10)::bigint AS by_version, value -> 11 AS new_bookings, value -> 12 AS old_bookings
        ), made AS (
            INSERT INTO bookings (id, event, quantity, state, tickets, available, version, booked_at, seconds, expires, buyer, changes)
            SELECT (value ->> 0)::text, (value ->> 1)::text, (value ->> 2)::int, (value ->> 3)::text, nullif(value -> 4, 'null'), (value ->> 5)::int + by_available, (value ->> 6)::bigint + by_version, (value ->> 7)::bigint, (value ->> 8)::int, (value ->> 9)::bigint, (value ->> 10)::text, CASE WHEN value -> 11 <> 'null' THEN shifted(value -> 11, by_available, by_version) END
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
            RAISE EXCEPTION 'an event has changed' USING ERRCODE = 'TD001';
        END IF;
    END IF;
    IF in_redemptions IS NOT NULL THEN
        INSERT INTO redemptions (booking, ticket, number, what, at, note)
        SELECT (value ->> 0)::text, (value ->> 1)::text, (value ->> 2)::int, (value ->> 3)::text, (value ->> 4)::bigint, (value ->> 5)::text FROM jsonb_array_elements(in_redemptions);
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
                FROM bookings WHERE event = value ->> 0 AND buyer = value ->> 1 AND state IN ('held', 'confirmed')
            ) END;
        IF FOUND THEN
            RAISE EXCEPTION 'a buyer has too many tickets' USING ERRCODE = 'TD001';
        END IF;
    END IF;
    -- Whoever else gets the lock of this row knows that this batch is committed, or never will be.
    INSERT INTO commits (connection, batch) VALUES (in_connection, in_batch)
    ON CONFLICT (connection) DO UPDATE SET batch = excluded.batch, at = excluded.at WHERE NOT commits.fenced;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the connection is fenced off' USING ERRCODE = 'TD002';
    END IF;
END $$;
CREATE FUNCTION ticketd.shifted(changes jsonb, by_available integer, by_version bigint) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT jsonb_agg(jsonb_set(jsonb_set(change, '{1}', to_jsonb((change ->> 1)::bigint + by_available)),
        '{2}', to_jsonb((change ->> 2)::bigint + by_version)) ORDER BY place)
    FROM jsonb_array_elements(nullif(changes, 'null')) WITH ORDINALITY AS each (change, place)
$$;
CREATE TABLE ticketd.bookings (
    id text NOT NULL COLLATE pg_catalog."C",
    event text NOT NULL COLLATE pg_catalog."C",
    quantity integer NOT NULL,
    state text NOT NULL,
    tickets jsonb NOT NULL,
    available integer NOT NULL,
    version bigint NOT NULL,
    booked_at bigint NOT NULL,
    seconds integer,
    expires bigint,
    buyer text COLLATE pg_catalog."C",
    changes jsonb,
    CONSTRAINT bookings_available_check CHECK ((available >= 0)),
    CONSTRAINT bookings_check CHECK (((seconds IS NULL) = (expires IS NULL))),
    CONSTRAINT bookings_check1 CHECK (((state <> 'held'::text) OR (expires IS NOT NULL))),
    CONSTRAINT bookings_quantity_check CHECK (((quantity >= 1) AND (quantity <= 1000))),
    CONSTRAINT bookings_state_check CHECK ((state = ANY (ARRAY['held'::text, 'confirmed'::text, 'released'::text, 'expired'::text, 'cancelled'::text]))),
    CONSTRAINT bookings_version_check CHECK ((version > 0))
);
CREATE TABLE ticketd.commits (
    connection text NOT NULL COLLATE pg_catalog."C",
    batch text,
    at timestamp with time zone DEFAULT now() NOT NULL,
    fenced boolean DEFAULT false NOT NULL
);
ALTER TABLE ticketd.events ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ticketd.events_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE ticketd.ledger (
    schema_version integer NOT NULL,
    move text,
    arriving_from text,
    moved_to text,
    system_identifier bigint,
    timeline integer
);
CREATE TABLE ticketd.redemptions (
    booking text NOT NULL COLLATE pg_catalog."C",
    ticket text NOT NULL COLLATE pg_catalog."C",
    number integer NOT NULL,
    what text NOT NULL,
    at bigint NOT NULL,
    note text,
    CONSTRAINT redemptions_number_check CHECK ((number > 0)),
    CONSTRAINT redemptions_what_check CHECK ((what = ANY (ARRAY['redeem'::text, 'annul'::text])))
);
CREATE TABLE ticketd.removals (
    event text NOT NULL COLLATE pg_catalog."C",
    changed xid8 DEFAULT pg_current_xact_id() NOT NULL
);
INSERT INTO ticketd.bookings VALUES ('annulled', 'jazz', 2, 'confirmed', '["823eba7c857a", "d31d9e1f5146"]', 2477, 16, 1795780001540, NULL, NULL, 'anna@example.org', '[["reissue", 2477, 17, 1795780001549, ["22d627eb0ea2", "823eba7c857a"], null]]');
INSERT INTO ticketd.bookings VALUES ('cancelled', 'jazz', 2, 'cancelled', '["104e89198844", "b80e4986821e"]', 2475, 18, 1795780001551, NULL, NULL, NULL, '[["cancel", 2477, 19, 1795780001553, ["104e89198844", "b80e4986821e"], null]]');
INSERT INTO ticketd.bookings VALUES ('cancelled-in-part', 'jazz', 3, 'confirmed', '["17696d6bbf4d", "2031c5b7cce1", "11ea36bf55f8"]', 2478, 13, 1795780001527, NULL, NULL, NULL, '[["cancel", 2479, 14, 1795780001529, ["17696d6bbf4d"], null], ["reissue", 2479, 15, 1795780001537, ["0eeb5479f1c8", "11ea36bf55f8"], null]]');
INSERT INTO ticketd.bookings VALUES ('confirmed', 'jazz', 2, 'confirmed', '["836ff2f39b7d", "87e63f9b8f6b"]', 2481, 11, 1795780001520, 60, 1795780061520, NULL, '[["confirm", 2481, 12, 1795780001523, [], null]]');
INSERT INTO ticketd.bookings VALUES ('expired', 'jazz', 2, 'expired', '[]', 2488, 2, 1795779970497, 30, 1795780000497, NULL, '[["expire", 2490, 4, 1795780001502, [], null]]');
INSERT INTO ticketd.bookings VALUES ('held', 'jazz', 4, 'held', '[]', 2483, 6, 1795780001507, 3600, 1795866401507, 'Order 7\8 “Zoë” "''', '[["extend", 2483, 7, 1795780001509, [], 1795860001509], ["extend", 2483, 8, 1795780001512, [], 1795866401507]]');
INSERT INTO ticketd.bookings VALUES ('in-the-log', 'jazz', 2, 'confirmed', '["20d2f4c4a452", "875a62445768"]', 1475, 21, 1795779970581, NULL, NULL, NULL, NULL);
INSERT INTO ticketd.bookings VALUES ('large', 'jazz', 1000, 'confirmed', '["949cb38f1cdc", "8117d42731ee", "8d118f830526", "91b59004ffa4", "cb4bee43e485", "c7039eb57a92", "6bdf557a3739", "a760bae859cc", "62677df9e48f", "051965f90887", "37133fb5684e", "ab0ebb38a3b3", "58fa2f150f77", "50ab2ccb4b41", "c4f723c8eb7d", "93a7f3b4a382", "f4358614d87d", "c64c39c9001f", "f9efa3c9d539", "c2c266757bcf", "d891a2c74908", "023985adf153", "6fdfdba9edc1", "ca4a79c360c6", "7b7e8022bcb5", "1db05290921d", "67105d4176ed", "0c67f9d779e0", "fafa20b6e6f8", "97c60da593a1", "7092454c50eb", "47c4d1652eb3", "563d63fc32b6", "21d172a1e752", "1f745e97fd0c", "3e8896231835", "f78062f83819", "42533bebd090", "f0877ced2d3a", "f4cf2438dda9", "9cd28e3f206e", "f04db49601c6", "f2860b500230", "521e684fc2ac", "83317317e7c9", "36586c76bc88", "09671eb3a81a", "8291690d7bea", "54d1d6709299", "5d72a5bd4910", "85c6c15450db", "0cc456404ba7", "583739d1053e", "d7a25bee1296", "9c6803c7f1d0", "891b972dca09", "facdd6524979", "faeb83b75dcf", "d53e9644f23e", "f2f2a84829c0", "66ca7d31d412", "50e4d4bf5c10", "ec390bda922d", "a1915be3deef", "e83e2f2488e8", "894b906e9ac1", "bd04447ffa0e", "0e5b1f64c8b3", "e67a5584cc28", "c2b30e72b9b0", "e22c972e8afc", "1bfadb463c30", "cbcb35b5ca14", "0de8fc41da08", "79dd24eb69e4", "4e0d26bd8a84", "b3dfa08f12aa", "6a22d11986a4", "98e778215909", "fe94ae99cba6", "8bb0f5f0cf56", "8fd222a6456d", "42be4ad11292", "bfe011d5c41b", "a1834c04f5e1", "2163a0e46fcf", "cdff07e4b320", "22b32200f824", "7e6c42f8a9d6", "6d041ad30eaf", "8679853217de", "9d5f0c8bc243", "d80dfe93bddd", "55005b860f0c", "e64b4aa2e8b5", "1589499ee273", "f18d1fb2f489", "504ca31c6fb4", "4ef23ddbd694", "c1a3deab5a58", "2c846843ba0c", "df85d09bafcb", "a4cde0607b77", "801b50b67f5b", "ff2d7904f73d", "0330923219f8", "fec39de3340a", "40444b96cefe", "69b19e2b1461", "99cf6c50a1a3", "b18906f8044a", "d5870b89ff6d", "559ac411ca03", "cb4ca2cfebc2", "fb08c023f091", "54cb3310c8e5", "e7f8ec9095fd", "63e5c0d652ca", "25ca552aca48", "417aeaf686be", "4a70ac85187b", "9d3666876cba", "6014c0a28ceb", "e849de15f5d2", "71039f222f99", "4e54911174c5", "360067db926a", "5277e3c9eb50", "d1947d92f126", "1775e38be7fe", "930913482786", "406947610d6e", "bf65d78ecfdd", "881c079cfdc7", "e1a803f669f2", "1a30dee018fa", "c34a18ef593b", "0f2e522ac486", "ce4e9b90e65a", "20ac6236a8d3", "5029e9c187f7", "7a77aed0e65d", "75693fc67c08", "23811a665b8d", "4f19757558b7", "0dd0ed13119a", "485aa0edf27c", "5331651527b9", "aa6239abfa2b", "1f5c1ebf80b9", "5efe5046269e", "99f9bbeb03c9", "a919d147f13f", "fed05cd93cc7", "c25d36af643f", "209de2972343", "65ff94ad84ab", "adb04619cefa", "19c69392fc04", "28740d817eda", "658d545a776c", "61a591158c38", "7d5c2f0aca46", "2e077be4f840", "a8c5b8a9c02e", "8bd65bd41da0", "6cb8abd4f1ab", "3db838042f22", "2a4bb047524a", "092b85b72f47", "053b7a5b832e", "7b7ba95bada2", "1b44b9420743", "8515ca8979f2", "2f5bdba197f5", "51a8ff2aeacc", "981ae07b7789", "27add5e00fcb", "94d35f231e04", "78ff19f7ffde", "86d83bb07836", "1d12e24f7da5", "39c24a8ce87a", "54fc025e3da5", "c74ddfafc617", "3c1e8624940a", "c990e5095918", "57ad4747f59f", "5f135f0aa7d7", "735918ab8e9b", "1034b0071285", "fe356bbfb5e2", "89e09e1e32fc", "7dbe8fa7850d", "84ff79deb0a0", "74599621e75f", "b11d4291fe38", "deb30ef9399a", "95f1eaf99aff", "333c81c980c0", "ccbc1983188a", "f02937de6090", "4d5b9fd2b472", "2d37c2b0e420", "e37d2b0e8b22", "d0f726c54dec", "6767b88f036e", "bcc213168559", "155d986fbc2d", "bc59415b1b57", "5eaec543872c", "3c7fe2fbef28", "93d9bf5f216e", "629de8d46493", "a5048a39f417", "cd97a0f320a7", "3cd802307bc8", "0adab6a25831", "e9f0906b8eab", "09c404b8e297", "1480e1114cd6", "d43fff50c844", "0a3cc5bbd49f", "992324756daf", "ad2a93ac3c62", "11da3a8dcf45", "b1d4c7e19bbb", "46fbf2553aa0", "ef8dc5bb9890", "27fc83d3c294", "b3303b5a0426", "7646c26f7234", "6fd2f685b2fa", "b6a282adc61c", "3d55abf10fd7", "6ea348cc3dac", "c22065f50df6", "7bc56ffa9412", "b96219d7a372", "39c88eb152e7", "80c2b8c01c61", "b5fe08791ca2", "c4294f5d08be", "939343f8fd10", "d81515e28afb", "163abd6b6215", "d5a211913ced", "90b5bc1941ce", "de759c9be692", "698e29f1de9b", "a2dd4d9da0e6", "ebc803ce2dbf", "73cfedb0214d", "b8151c626eaf", "f0f9d461e62c", "4f544e9ab7ff", "0bfbdde6346d", "80a1a633fa78", "116b3aa8197e", "e1ac5020276a", "393e5fc74c7f", "b2bb69ea537c", "fb94dc2eacc4", "83f342383f8b", "f76185b7c389", "1c56a34a7e2b", "9a1e87073c26", "df1bfd41b488", "0548b5842830", "d50cc6998a20", "1cc4f9a39030", "3303728e1d84", "657ac05f6dad", "08210c886f14", "961cfaf9dc61", "1dc1627eaf96", "f749b1c2d627", "4bb6500b5721", "9eccb4dad040", "bc0b4bc16a0c", "878d3dcc839d", "67aa64947602", "bd5b44744e34", "807af39db452", "405110f12246", "8e1c4911f80d", "0a466f7da895", "f30006f14e99", "97da84a8bbe5", "85647ddeee00", "3a106c8de0b0", "c275ac8cd05a", "982d7662ad9e", "7b8b34083019", "8a3dafd0fcc7", "8805d4f7cb99", "24a66828eaab", "975010ce59bb", "ef15f73c40d8", "617aaefed19b", "d89147e961a9", "4276b6d3d9e1", "0187efe50601", "6f578fd5ab23", "94146ea443bf", "370967751985", "0cb1e8131bd6", "9da2f77fd59c", "3ffb24b9c29b", "e40763de4c22", "9d03f0aae983", "d716e32ae5b0", "3aa983d47d54", "d60d37b5574d", "db44c05ff87c", "b9f1e76244d6", "12e73f69e9bf", "5e84de8cb1b3", "ccca5dd33737", "d177f33398f0", "40a234a830dc", "d4cdedbaa040", "b3e0270e1f06", "ac978cc16496", "a7c5b0021213", "dfcb566d92a1", "349f15f461f7", "89616c0ff13e", "e6ef29a2b056", "894bbb34ff60", "4cb19805f44d", "79e28ce2577e", "0df05ccee4a9", "7e197ad0d2d7", "fc216a5dff1a", "4d0735220586", "ad591e012f15", "04579557ac30", "b064d1fcc988", "90d690c54eab", "6a12a9635237", "44db85ee91dd", "33326858b828", "baa275cbdadb", "2cfaefe48dfa", "da0dd8a92fb2", "c2c802d83d6e", "0ed5ee8c6462", "5c28ac14cbc7", "674d15e31921", "069acd1ef191", "730a3bc2c3d1", "71780baacbce", "75dd59825f57", "5fbbaf5fad2d", "d2400086f0b4", "550dd974df54", "54e14e8a33c7", "d20775927400", "452b71c0e6fb", "6d630d3779c7", "e29e18f57106", "2b459ac36c08", "716bfc93a749", "74b99d22d2e3", "5e07fddee23d", "4bec54cd91c9", "f87c9ade018b", "9ecf37cc93e2", "bd9358ca8fa1", "6b16062c2e3b", "4e797ceec7a1", "76710ff93b38", "96a50c75f8fb", "a4116ee77066", "694742e3b4b2", "b180b40b0a38", "518b2742c8a6", "e34c10bfc2ad", "c2cdae22ff32", "ed78fc6c9f74", "04c7073ed5b8", "8f7fc0138533", "e258a97228e5", "39bbfcd3e55b", "8817af8190ad", "566050872bbf", "5e38fffdf4d5", "0124831180a0", "d14d8549366b", "5da2392abb16", "e8bfbfe0cad1", "b758d97dea60", "92931ff3c1cd", "29f6af674cc9", "b7b73feda773", "55b80a2ded15", "1d1af493cd2e", "1689966dc2fb", "20ddc0124a2e", "84d6ff7f485a", "6a9c916b3332", "54ce579f6085", "ffab658455dc", "2da91db545ba", "a885f5fdc39a", "d143e91efa75", "4b84e0bc5839", "043838a33be9", "16a977a9384d", "d0aa1e2d9d3e", "92f2c195e6a9", "7e7e8c29f1c4", "b066dcc38871", "c1ec9b901f6a", "1f59dcc95022", "2a90de515c12", "dfb3ff49cf29", "8e13f67fda95", "ea11d208d889", "330c5adc7c4c", "50bbf9e469f1", "7aef783f897e", "13399bcab2ef", "6f36e605d4ba", "eb04903d042d", "a84a0d19423d", "abc78faf1c9f", "b280672d6337", "b39da3424cff", "f7f5f14f0cb3", "52f1513c020e", "c9b16a570f07", "c6bbf582d7d9", "138569234068", "2904d122e43a", "1c9c0b1cd143", "2dabb66ceee9", "09d229b88d5e", "cb8acc73d956", "c413e871b05b", "f1c1fe2e6ae6", "0537bebada57", "584a62db80dd", "e9f0a0fd4155", "e56b3f8d1812", "2deee6cf2526", "26fcb52935ec", "5df33080a8a6", "dbe0b01d41e7", "44bea4b58729", "685c133cd4d4", "5740f0658d6b", "8c8d10b03d21", "e0bb8a9b05c9", "68cd59433b78", "4de3e8652d21", "462221dae567", "72d2d51216dc", "05b4d3d4c9ad", "b4e72e77a307", "8f191a5f102c", "71818711089c", "922a004b6bf4", "b613066355ce", "d9feea7d3e49", "6ea867979dff", "c99b7184fffc", "dfbc9f3a3ec1", "267911edb704", "7515c38d0e4e", "006f5e3fb780", "651f0f446bf4", "cf76ea32c836", "fceb19ff528f", "b71a51e5625c", "24a522796a5a", "6470be9baeed", "c66cddc44d46", "f59288ee30a6", "b83632ea1eff", "fe5d6335cf3b", "98b6514ebbfa", "7db32c739ad0", "42f4f6b68d07", "ea54cc32c137", "5155cd4d89ad", "0f6911322bec", "d2811ad9819e", "85a4cd7d9b9f", "dd03fa07959d", "7eddc995b659", "99ec7f1f6c0b", "aeb81929ddbd", "35366f18c9b8", "2cb6120849eb", "4f58ad9adcee", "5b2ff6dd514b", "0a2af95e940f", "4f32845c1b39", "43ba1ee20d55", "ccadda1075e9", "06d1fc243684", "daecd891a2db", "9ac4b909ce54", "9718bce22db8", "1656f2f3e925", "0e6b0317d7a5", "b99c2fb3e812", "8b051b99f8e9", "f6ebfa03e9e6", "f8b3813ef0bf", "777991ef4024", "b35ce629d4b9", "c66c69d4af18", "1d78e3c5929e", "215e5297155e", "b6a27d84afdf", "9208a8866e00", "2e78b04a39a9", "a8d0a8a8054b", "90a041f2c916", "6ffbfcf2b130", "55807bb2d8bf", "9a0d586df8a6", "ca194786fc51", "d20849c2bc05", "cd7d0f147ce9", "8ed7029d4978", "1b7cc76d62bf", "acd18d7102f9", "5b487a3a242f", "e72999d8d236", "3770f70690e9", "89da45075eab", "89324177204b", "ef5b19aa9efb", "70cbb1012dd0", "dd2d8e794710", "1e492b8ed934", "7585f0edd9e9", "c33c97d89730", "7953c6c07bc4", "bb798fb03993", "e546c145cc8e", "82ed04663624", "f97b89e0f15f", "848e232acaaa", "d17d16b49917", "34816cabf28f", "bc00a593468d", "e26e2f58a46a", "2a7600284395", "0e7fb63ed8a2", "e5898008a6f2", "da1c6853afde", "6430ba25e249", "4939e860768b", "8220a7360224", "0246b1e1af00", "a0855ace282d", "fa1f266d8db2", "4f3349e8955c", "a5c1977ef99a", "ee172a8bd10a", "e011930ffc58", "e1d2f14bc6ec", "1b8639e4f3f7", "34ec7611d341", "d14f9e1c7037", "4867c0c72a6f", "fc5b6414385c", "fec076baf526", "d17c11d0c2f0", "b594dbbe1d83", "417beafa9818", "a89dcac5e97c", "276502890327", "371c39f28977", "2048f77adac6", "225ab31c6fbd", "1d8bd74aaef1", "22013efc39b2", "e9277cfe8c79", "df555a53a582", "d23748aa3876", "8302ceeec444", "e8611cede28d", "18a6eb330332", "ee86779634e0", "cdbd63cc05a0", "ba7667e6257d", "3c0e035061f9", "5427cadb35b4", "b1de25d94793", "042ed23c5acc", "1f3e47a0ebf8", "86c48808897c", "d96afbf8d184", "8bbe048e7c51", "d99d6722ee71", "4f04738d76dc", "0ac67dda006f", "6753942a3093", "dd24bc6ae1fb", "4e8520bc3d4a", "fdc9a1f732e9", "775e385c4297", "722a8ad5bb05", "99b0cedba261", "d5d1d6651b43", "cae2f1a02217", "ac16ac7a7e5e", "0f5edfab8be6", "147e2279d613", "3cd2b9401457", "550fee18384a", "66c0bd627d66", "3e36d48d4453", "cb1fbf1b1fbf", "947f4aea5515", "f0746e97c510", "18675ea1fc3f", "6249eef63c72", "93f3228f6049", "52daff2e22ab", "d457c189adc8", "a7c6751e4ff8", "dd87a587d4fb", "857abd533e21", "09141b61c07f", "3f62ee90cf72", "44b1b2505e30", "d42568fc0c90", "d3e649502244", "95753358896e", "71fffaac5be3", "5b687fc2feba", "5ccba326eb39", "16777059d0b9", "289967678e16", "1115a97dcc5a", "26966b5b37d9", "75fa02851f05", "0092b332a6b6", "4d113c2be684", "af1180ff337d", "7538367d7dd7", "ba945ae4193f", "d6d2be4025db", "95400e46d95f", "d4ceb2812510", "b25a802aced5", "e56c639564c2", "e4f442d2f131", "5b9c56be7c92", "6333803371b3", "ac8804105f4d", "5045a6083a4b", "ef4764c54035", "ad424fd33d6d", "300e7de5e73f", "abb6dc106674", "9d7459c34571", "be9af237368c", "f654dff25827", "2705ab0c8b74", "19e241c0e95c", "2500368161d0", "208896038233", "37ab3e50cce5", "012793e00f19", "04f44af51f82", "d5e5793f0efd", "61cedc89d486", "bff6db6b007c", "245e28dab805", "59bec35ed501", "f8f10a33ab37", "31bfd743bb51", "00a4047b64d9", "8307f1b8808c", "20f2d9e0b7c0", "1ed5ffaa837c", "9532b405efd6", "1f68859b3fdc", "61f1b5e86c5e", "fd3a004e82d1", "39b0a241ed75", "871a7191c94d", "715c55ffcc06", "582239735668", "4a4bbb537650", "2dc247b434c0", "deb5fc2b339c", "147da68aa51e", "4d51bf3e2538", "cc25e24da7b1", "bf0e52493b14", "e1e14d8939d6", "e64639519f7d", "2e7d09e9bfc1", "02ee6a629f28", "7ba5da90a583", "eb72ad0105cf", "7b080bb1ce49", "71552845aead", "bf2f89e3d166", "1e6f4863b2d7", "e4b471afae3e", "cc1fc981ec9e", "fbe248e53758", "f09a1347c3dc", "799fb6e357f3", "3398158f2cc9", "52f24d7135f9", "98902b843dd6", "3cc02b6cc92e", "2de317f71f61", "9be0ac3ec0a2", "69b87090f343", "f1ea3a06bdb3", "180c12464586", "1ace458a9789", "7c5ae1a55dac", "f74dce4413b8", "d90e9e5ecb27", "cea8f4c156a5", "06d90b02aac1", "47fe961bb96b", "b8b619c743a0", "5decf5073d98", "b11e4dd4acec", "b1f78cd4b6be", "3921fe009056", "8c79b08f6181", "15f1cf177338", "f1762dc5b313", "9f3bb820d36b", "8eaacc242eaf", "d21b584ece27", "0145fc332d6b", "7f2030e0dd16", "d7394ed894ac", "2d4785592e32", "3feeebfd9661", "20076eedd156", "29708d7f2372", "73b08d018c4e", "9e617ae87431", "5bb4344b58f4", "1092b9552848", "b4b376ab5c23", "1c6256b74336", "c0c2eafb7664", "655473d4c6fe", "bff41fcb4179", "94d6bdb1f424", "f900ef02b087", "11e9b8299d39", "1d4f52b9988e", "694b38691f23", "a72b567a7a47", "bdd1d1ecf8f3", "38778631a879", "e0ceb798eb41", "a59987b30e96", "0c138f9dbdca", "b7d9f68421db", "0b159e76fd77", "a2001c627a5d", "574b27795b16", "ecb729146d91", "46104207592a", "2d368c962cfc", "3b8ec455e5df", "e07b07cd3db7", "1a7db854ce57", "db703ca52b72", "2e7a54ca88ec", "a71ca4454039", "4f4193159d16", "cdc0f2e203f7", "fb74abef6f37", "1cbe4238b015", "50a74edc7c14", "003de569dd60", "558bf1599528", "7cf697bafe68", "38b1bc84f57b", "8ff12174ce26", "4e905c2f47e5", "817414314d41", "5c87b0bdafdc", "143a6ef386e2", "19e3d822ed6f", "ab7ae054b03e", "13315c145c29", "c173c52639c2", "cbfd2d3edce2", "039851b9449d", "f4068b2d541e", "7aa8ab62a731", "1186335cb3a2", "def32684b26e", "23887a849b1b", "6b28519f80a3", "d22a426dc15b", "f4753fa10404", "cd62e560c538", "5af3da9d68d3", "5348e8470391", "f258a11a82a8", "3cccab72ba47", "a971ad4f8e06", "073e86ac3903", "3f37c2dd7968", "b1677d50fc07", "435ee095d314", "96ae36790083", "a8cc63e8d332", "08e20c2cc1d0", "1dd44c8bd7f4", "ec1c297be60a", "3fd3fafd6b69", "2061a1f82d32", "31f54cc4f51c", "a70d935e231a", "1f23361546d3", "4048004b12d0", "b6ee9f40f1ab", "d27b1bb9cb67", "981f13fc1dd7", "3d04a6287b15", "52ada3b3481a", "478430b05080", "cf0a73ab618c", "bac4f2abe031", "15102e45fe96", "e3c64c16c059", "6c25f45c3a86", "875cfd4a0985", "3a4561f76cea", "601e3a454757", "13b75f30bf26", "09b70d25f8da", "942eb4efe3ee", "b6b9ddbb3b14", "30ff809f2b47", "59ab03b95cec", "491a394b170b", "9fc48ae665eb", "be34e271d030", "ffba32caadfd", "9cd736574cee", "15a4e2fe14e9", "d7d4243a4a41", "48e87918c4ca", "0de692fa9f4d", "973d101ad36a", "2864f2461026", "124911a4193b", "55e69e9dfedc", "c246f1e20195", "5e53c5c32953", "910e7953f69b", "564ac62442b1", "95b20d77b3fd", "13cd64d122e1", "905e5d4d6244", "97496d945e26", "38480205ce75", "bf3f3667275c", "c20a5515a44e", "cd891cbfc940", "6db8c99188b1", "feb56731b3d2", "ba66370861b9", "56133d04b8c6", "8af381e3094b", "91d3c1149cc1", "b713e403a04a", "d1fdfe843146", "4189a7ac6fbd", "2dd7c5703ebf", "b43743d15f48", "4234cb62e7c7", "5d4d26682f4c", "197d2b331ee5", "d98d863725bc", "a87c139079b9", "1ebf735d7b06", "d505bedcdc9d", "b2e40072b774", "a580d9afe54a", "bbb68ff31df5", "8aa9d722f79e", "2d7142bba17a", "02cfb9d56dbb", "4736947f1f87", "ea7f8292a6cb", "1da4f63afb17", "ac5598c8c38f", "bf9b03856682", "80758c323ab4", "1cd193d37a69", "3f4a191643e8", "775d70b42171", "bb360d3b373a", "786b07bb9591", "5c406cc6404e", "0cb17a9b663b", "dca56286d4d2", "8041608e0187", "bb3e407249eb", "5980233b288b", "34f459423dd6", "e6e35636b56f", "593e3de051dc", "b0e2d4b145aa", "b2409fe05b3d", "566e620b3b22", "c838eeb36996", "8099f07c2a8b", "ce3b188a60de", "3fa3c0e8a7ee", "b6c181a829aa", "692f3d109c4f", "7ffcdef09db8", "c89c34e0c938", "1ebe8536f9d3", "88fd252f1802", "f31b018f7221", "d6568f2f0d31", "35e9490c0040", "e2d854fa256a", "0d21a6237ced", "62df94c63989", "4bd015ede490", "98905c4d81a2", "8901a0327a37", "26324800f17c", "c68fa825bcd0", "ee5d57801353", "73e4717094f9", "d9edb372b3d2", "b3519fba3c81", "95cd524f5fcb", "bf8c8b261884", "16b24c528429", "64f9f2e13c87", "a74da4936141", "17f356a7bd8b", "7207d9500b1d", "501124d8f2db", "4f477603131b", "c71c24aba312", "41de0917ef6f", "4173bb1359fe", "ad49e4ba6340", "5707f08f3f1b", "683ca5af16eb", "eb46a859ef2e", "16bee2e1b1d6", "ba45315220f5", "17cfdfddbcbd", "2ac820f31e9f", "e055e6440a12", "77195b403857", "2ef2ece631e7", "ae72d19a097c", "1e1908355975", "6fabd7076b77", "8ef1aac15e16", "78e390f813f6", "db24ddb5e1af", "a4094d88689e", "702061385259", "8bf252d13f6f", "84c99d3f6102", "a37469c81ea4", "7e9eeb4b7e47", "361093491091", "853766b08959", "a68827bdd12f", "a3bc0fb83eea", "c2e38cae90fb", "d76630627cda", "e30abeb24ff8", "11adfd81f6ab", "593652730b40", "035aaabeaa01", "42777697f568", "2d5483bd9509", "2a02075b45e1", "088bbf921695", "dea5e3b5b42a", "2c9141ca33c0", "63288088e488", "70068831c483"]', 1477, 20, 1795780001554, NULL, NULL, NULL, NULL);
INSERT INTO ticketd.bookings VALUES ('late', 'jazz', 3, 'confirmed', '["2933dee99a2d", "c386036e1fe8", "22c9f56b653d"]', 2485, 3, 1795779970499, 30, 1795780000499, 'Order 7\8 “Zoë” "''', '[["expire", 2490, 4, 1795780001502, [], null], ["confirm", 2487, 5, 1795780001502, [], null]]');
INSERT INTO ticketd.bookings VALUES ('released', 'jazz', 2, 'released', '[]', 2481, 9, 1795780001515, 60, 1795780061515, NULL, '[["release", 2483, 10, 1795780001518, [], null]]');
INSERT INTO ticketd.bookings VALUES ('sold-out', 'blues', 3, 'confirmed', '["15b8380f84aa", "21b5991e75f9", "0beab988337e"]', 0, 1, 1795780001504, NULL, NULL, NULL, NULL);
INSERT INTO ticketd.events OVERRIDING SYSTEM VALUE VALUES (1, 'jazz', 'Jazz, amended', '2028-02-29 20:00:00.123456+00', 2500, 1475, 4, 1021, 21, 10, NULL, NULL, false, NULL, 1, '["Zürich “Jazz” \"\\\"", "2028-02-29T20:00:00.123456Z", 2000, null, null, false, null]', '753');
INSERT INTO ticketd.events OVERRIDING SYSTEM VALUE VALUES (2, 'blues', 'Blues', '0001-01-01 00:00:00+00', 3, 0, 0, 3, 1, 0, NULL, NULL, false, NULL, 0, NULL, '753');
INSERT INTO ticketd.events OVERRIDING SYSTEM VALUE VALUES (3, 'ample', 'Ample', '9999-12-31 23:59:59.999+00', 7, 7, 0, 0, 1, 0, -62135596800000, 253402300799999, true, 4, 1, '["Ample", "9999-12-31T23:59:59.999000Z", 7, 1835467200124, 253402300799999, true, 1000]', '753');
INSERT INTO ticketd.ledger VALUES (1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO ticketd.redemptions VALUES ('annulled', '22d627eb0ea2', 1, 'redeem', 1795780001543, 'door-2');
INSERT INTO ticketd.redemptions VALUES ('annulled', '22d627eb0ea2', 2, 'annul', 1795780001544, 'Wrong "door" \ €');
INSERT INTO ticketd.redemptions VALUES ('annulled', 'd31d9e1f5146', 1, 'redeem', 1795780001543, 'door-2');
INSERT INTO ticketd.redemptions VALUES ('annulled', 'd31d9e1f5146', 2, 'annul', 1795780001546, NULL);
INSERT INTO ticketd.redemptions VALUES ('annulled', 'd31d9e1f5146', 3, 'redeem', 1795780001548, 'door-3');
INSERT INTO ticketd.redemptions VALUES ('cancelled-in-part', '2031c5b7cce1', 1, 'redeem', 1795780001532, 'door-1');
INSERT INTO ticketd.removals VALUES ('ample', '753');
INSERT INTO ticketd.removals VALUES ('deleted', '753');
SELECT pg_catalog.setval('ticketd.events_number_seq', 3, true);
ALTER TABLE ONLY ticketd.bookings
    ADD CONSTRAINT bookings_pkey PRIMARY KEY (id);
ALTER TABLE ONLY ticketd.commits
    ADD CONSTRAINT commits_pkey PRIMARY KEY (connection);
ALTER TABLE ONLY ticketd.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY ticketd.redemptions
    ADD CONSTRAINT redemptions_pkey PRIMARY KEY (booking, ticket, number);
ALTER TABLE ONLY ticketd.removals
    ADD CONSTRAINT removals_pkey PRIMARY KEY (event);
CREATE INDEX buyers ON ticketd.bookings USING btree (event, buyer) WHERE ((buyer IS NOT NULL) AND (state = ANY (ARRAY['held'::text, 'confirmed'::text])));
CREATE INDEX holds ON ticketd.bookings USING btree (expires, event, quantity) WHERE (state = 'held'::text);
CREATE UNIQUE INDEX one_row ON ticketd.ledger USING btree ((true));
CREATE TRIGGER note_removal AFTER DELETE ON ticketd.events FOR EACH ROW EXECUTE FUNCTION ticketd.note_removal();
