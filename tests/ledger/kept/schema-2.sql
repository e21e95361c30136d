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
        WHERE CASE WHEN value -> 1 = 'null' THEN id IS NOT NULL ELSE (
            state = value ->> 1 AND coalesce(jsonb_array_length(changes), 0) = (value ->> 2)::int
            AND (SELECT count(*) FROM redemptions WHERE booking = bookings.id) = (value ->> 3)::int
        ) IS NOT TRUE END;
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
                -- Whether it is on sale, unless nothing of it may have changed since that was decided: now, and by the
                -- time of the batch, which its bookings show.
                AND (value -> 11 = '[]' OR (in_now_is_known AND value -> 1 <> 'null') OR (
                    NOT paused AND per_buyer IS NOT DISTINCT FROM (value ->> 13)::int
                    AND coalesce(opens, 0) <= least(in_now, floor(extract(epoch FROM clock_timestamp()) * 1000))
                    AND (closes IS NULL OR closes > greatest(in_now, floor(extract(epoch FROM clock_timestamp()) * 1000)))
                ))
            RETURNING events, available - (value ->> 9)::int AS by_available,
                version - (value ->> 10)::bigint AS by_version, value -> 11 AS new_bookings, value -> 12 AS old_bookings
        ), made AS (
            INSERT INTO bookings (id, event, quantity, state, tickets, available, version, booked_at, seconds, expires, buyer, actor, changes)
            SELECT (value ->> 0)::text, (value ->> 1)::text, (value ->> 2)::int, (value ->> 3)::text, nullif(value -> 4, 'null'), (value ->> 5)::int + by_available, (value ->> 6)::bigint + by_version, (value ->> 7)::bigint, (value ->> 8)::int, (value ->> 9)::bigint, (value ->> 10)::text, (value ->> 11)::text, CASE WHEN value -> 12 <> 'null' THEN shifted(value -> 12, by_available, by_version) END
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
        INSERT INTO redemptions (booking, ticket, number, what, at, note, actor)
        SELECT (value ->> 0)::text, (value ->> 1)::text, (value ->> 2)::int, (value ->> 3)::text, (value ->> 4)::bigint, (value ->> 5)::text, (value ->> 6)::text FROM jsonb_array_elements(in_redemptions);
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
    actor text,
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
    actor text,
    CONSTRAINT redemptions_number_check CHECK ((number > 0)),
    CONSTRAINT redemptions_what_check CHECK ((what = ANY (ARRAY['redeem'::text, 'annul'::text])))
);
CREATE TABLE ticketd.removals (
    event text NOT NULL COLLATE pg_catalog."C",
    changed xid8 DEFAULT pg_current_xact_id() NOT NULL
);
INSERT INTO ticketd.bookings VALUES ('annulled', 'jazz', 2, 'confirmed', '["b6629d1d3f5a", "7b73b20aa9e1"]', 2477, 16, 1795798963197, NULL, NULL, 'anna@example.org', NULL, '[["reissue", 2477, 17, 1795798963199, ["8eec0ed993b7", "b6629d1d3f5a"], null, null]]');
INSERT INTO ticketd.bookings VALUES ('cancelled', 'jazz', 2, 'cancelled', '["e7ed7a4f789a", "7cc95f23d2b0"]', 2475, 18, 1795798963200, NULL, NULL, NULL, NULL, '[["cancel", 2477, 19, 1795798963200, ["e7ed7a4f789a", "7cc95f23d2b0"], null, null]]');
INSERT INTO ticketd.bookings VALUES ('cancelled-in-part', 'jazz', 3, 'confirmed', '["a224dd708f20", "9c99bb3c4ba8", "ea6b0ae6c607"]', 2478, 13, 1795798963196, NULL, NULL, NULL, NULL, '[["cancel", 2479, 14, 1795798963196, ["a224dd708f20"], null, "box-1"], ["reissue", 2479, 15, 1795798963197, ["d7322efe99e5", "ea6b0ae6c607"], null, null]]');
INSERT INTO ticketd.bookings VALUES ('confirmed', 'jazz', 2, 'confirmed', '["201bdae98a72", "59eebf8923e6"]', 2481, 11, 1795798963195, 60, 1795799023195, NULL, NULL, '[["confirm", 2481, 12, 1795798963195, [], null, "box-1"]]');
INSERT INTO ticketd.bookings VALUES ('expired', 'jazz', 2, 'expired', '[]', 2488, 2, 1795798932190, 30, 1795798962190, NULL, NULL, '[["expire", 2490, 4, 1795798963192, [], null, null]]');
INSERT INTO ticketd.bookings VALUES ('held', 'jazz', 4, 'held', '[]', 2483, 6, 1795798963193, 3600, 1795885363193, 'Order 7\8 “Zoë” "''', NULL, '[["extend", 2483, 7, 1795798963193, [], 1795878963193, "box-1"], ["extend", 2483, 8, 1795798963194, [], 1795885363193, null]]');
INSERT INTO ticketd.bookings VALUES ('large', 'jazz', 1000, 'confirmed', '["a88cd9e4595d", "85759c6bb4bf", "8f407f3fbe91", "6b99b49a494f", "d39ea294a43e", "6e6363074893", "99ed67a9e2d9", "5c5c02c38e01", "51c18acb5a7c", "6f7e7f747a72", "210c7c4496bc", "ab557b160aba", "c1bbbd16f3dc", "ba4d78808c5c", "37192ecd7ab7", "49f08bb08b6f", "21b7b1d19999", "cb7d7e5d7a53", "0f1e46404c9f", "2ab9e1d06831", "a5f94eaf3b2d", "80f976747015", "4d53cf6dc967", "dd07ea5587a7", "775339586dd0", "ec31227c9386", "499b28463bc0", "de06fa81ca1b", "14d8c46e7bec", "ea9d1ca95940", "d2481522952f", "2a52449e51d6", "011d46e0b5db", "2fc7d874da72", "34f11e9d5b65", "4dc660baa9c1", "446780e30af9", "1ce09c3281d4", "7bcd2e3ab130", "165d92eab379", "498827ffed3c", "33d43e99867b", "310bc1f579a7", "039616cf8ddc", "24eef4b99b40", "216020d4a39c", "89f1c250c5af", "1c2faf714cee", "c891585c38a4", "9534d6c0282f", "7ea2d6695f0f", "977d5711f67f", "6b5845bb754c", "1c3b660a068c", "ae943288b664", "c8c3fbb63e10", "8d2bf69ad2e1", "d68d9862b276", "08ea049ea6c2", "b4605baf8bd2", "f9b84888411c", "3b4c523bcecf", "1eb65a96ab2b", "6bf0f8e9f6c0", "75981d8eff40", "727d8ad0912c", "c2cc2f0ddaae", "100a938d204f", "7a41fc5cffda", "24ccf2c3fec6", "25d84ebe980d", "692b80aad238", "815fc00cae97", "1ce6d30ddf23", "3ab00cd6f6f1", "3d573cb3eaf8", "94c744b4221f", "ca655344befc", "a574cb7549d2", "da7b6e2457d8", "22bf03d78df7", "d6557718f9d0", "7ee19501ff5a", "5cef3b1172f4", "8a47fdbd7beb", "b41f271408bf", "ec399aed247d", "06fd9650ae80", "01b3ac4f3158", "83866443be17", "c2e1abd28ca4", "73b234e6b81a", "4b3623a66fb0", "1c8c6074d990", "e9d5ed2002fa", "ada3903a4f77", "dfa0a02b7b33", "3a1f57affd68", "b1c6773ac5ea", "b0f3c3555b48", "f64bedf514f9", "69838919e8ca", "5102057d9f17", "b09dd417608a", "ff75e8a484bb", "17883946997b", "99819d22d9f4", "a0a812361715", "73a30cbd68f8", "be99c75dead5", "c003ac17d6e4", "8d6f419c36d6", "ec1454b02dc0", "32a6838794d6", "4c2129f78848", "42a119bca985", "6a8ce113f0db", "429b42f6c6aa", "6e7aa2068cc3", "b466e0f9d53d", "438c65fc7940", "e6bf90fea6aa", "bf1d58ca3860", "891f1b4d279d", "8a827e8ce086", "b8a16b3a023f", "627f157c9dbd", "6fc9517f050e", "fb10d743113b", "5566e2cf547c", "3e8aede5cfdb", "7223da73b148", "2a7bc17b50a2", "62b4b065279e", "8731c1522661", "f4a3ed8dc280", "486e66e0ba6d", "d1239ef0526a", "f52a0c59956f", "ad9b1cfd88ae", "fc82abb9412a", "f2a818712ecd", "ccce4362d554", "ff8460107004", "cdc8cea17115", "e38714662a9f", "de901d4dd50b", "82b7c1c7b259", "98e86694d510", "ce860ac0deab", "06237b962f27", "ee02728acf78", "6e19d5e2d415", "da3e2b54840d", "4213d862d1f8", "95cd6b916e47", "dec72024d97a", "9d572b356190", "54e55faf6e3e", "14548338d171", "a1aad502b726", "23abb7632f32", "4f554243b088", "db9fbf0ac84b", "9ce717e3a8b7", "f47a8e58963f", "2cab4b06ed62", "5ce7d8274ab8", "4d333d006927", "8bb854e91fde", "c712c3789d64", "acb0521a3b58", "8cf7871fde72", "a63d630325bd", "b9d0aa604979", "53a16e778685", "9d257085879d", "03bb6fd2a1ee", "e4c74590fa7f", "926f3c1c3363", "b8b843407e39", "6ccac8413e04", "6cc0e6ae17dd", "29c5cf0823fd", "7e9eccd3ffc6", "18e3fd8de3fa", "61e84c706e3a", "a2d81e658e79", "d5329cd71f6f", "a6b50221a60d", "cc31bf1c4b2f", "4e690b35c317", "8e6f5031ac31", "a240f132680f", "25a5c68256d6", "90e291ccee15", "809f826db10d", "d85baa4d70d9", "221b78cfccbe", "d6e8bf53fecb", "e793c566fe6f", "efa9755fc792", "0da21561e8a6", "741e8c97872b", "2f547b6aac51", "a5e73e0e33b6", "e7ccd4ebdead", "91a9a059f14b", "b3457fd23374", "3a6fb8d85f0d", "c0d497108b6d", "c61592d9cb1d", "dde72a1fdb30", "9bd8dafc4c37", "aa9e26ba659e", "464c430390f4", "bb1f21f73e33", "f59a9a284cce", "aad140cb5e24", "807980862d51", "d1a66e95a3fb", "620ca7b03870", "8fc125f9e246", "ee9e6677e770", "1402134b820d", "2be838cecced", "980a713ee4f9", "0af7f9629e3d", "a5f38347349a", "f5a22c6433fa", "a45e428e267e", "ee5e9ac3297c", "b95fdbf94bfb", "4560ab772b20", "82ea831e86e0", "d94a4aac6da3", "200259de05c7", "5ff44e4b961a", "5b741ab44fb7", "34f069adc2f1", "bbe1f47d5338", "a7bcc4d9bf68", "39c4be76c5c8", "02f52c2e9666", "c8965e6481ae", "1242a04eae1e", "9ad50f220fc2", "c654149b6a9e", "4febe1e66145", "5b47b30e6a64", "35890c0e4760", "98011e4562ae", "2283bd57cbed", "352f6b6fc70d", "e04e6522f36b", "4a24c1c87cc7", "e1bef494320c", "5f3855953370", "efa395f374f4", "6c11f0524c33", "3978fa724a8f", "e51f47ba8112", "1c534f808df8", "45a2067beb8f", "9f917458718f", "28e029d67c18", "79dd63785e13", "b0c485998807", "83fd1353e390", "9051e5878315", "5f0cc0899a74", "913d2f6b0e27", "e8650ed81f6e", "2f20500e31a5", "9690336164fd", "14870031010b", "5531ae6fea6c", "1cb68bc703e5", "bea1bf6dc15b", "245710e2f3b7", "7220eb67fbe2", "13e9b6f15a16", "f1033272df8a", "54599424f722", "d7efedca2891", "5c4145c95dfc", "9a0a6107ba88", "691b82d4e750", "4bc4ff927e97", "cbdc695fa637", "13d359e54f71", "9edb749b0ac5", "c5a259d13ecd", "607808088c69", "397dadaad0e1", "2fd645bf639d", "36c0fd9601bb", "aa0d2c62211d", "81137de7892e", "30405560118b", "b59cb912219e", "8c32a3b6f47a", "33a36587358c", "019f531aceb5", "91ecad2e6d9d", "320df34fe517", "3137d6add969", "08a0dfb492e6", "db11da06d118", "2fe5cb16e516", "fb7a8a7d69dc", "a4beecde371c", "7a8ad2990389", "29dbe0a0655c", "42b47f298335", "90d9a9d28c26", "b4bc5a18a36c", "4913f44861c3", "8792b381dcc5", "77a12707d888", "2ae6bbbfc21c", "c1cae1c47fc3", "9bd0f90f288f", "8be25f2256b8", "9029d9ea58f0", "ca988e04c455", "a7789b67c44e", "e6fec8855305", "7528097c7c63", "1d43c84faa28", "857f780204cf", "978ee466cf59", "42be77d3500e", "94d300ada3d3", "d5985a5e1665", "1e6b9ebcb2e5", "7aadefae8588", "73b96c6d5bc7", "a375892ae4c3", "1433ab26b1e6", "53a71fd46330", "40e9144bb6f0", "45744c6826a0", "454537ff093b", "ddec32f84676", "593a696f777c", "ebd7b805bac5", "2c95378b5584", "79668de82ed6", "a1cf2f95ffd9", "29d527f0edea", "796d050c562b", "e9bcdf102fb7", "dc61e762253c", "d0a9cf49a1bf", "fc576120ab17", "f959866c6dba", "8a15ce5d95eb", "a8ac714d8129", "dc8f619dbee9", "a72d140ddd96", "eb7bdc21f286", "11e028759dce", "06991628f6f0", "8beda65f6dac", "079db60c00d4", "b00eea12b1c5", "8f50674d4d45", "3f2a8adfa283", "3f66f2cf925d", "99e5a1c6fc3b", "dc4500380c99", "95be3d976fef", "1ed71adfcec5", "5fb117a14503", "2f5c50301cd7", "5791153c7834", "072f9f4dbfdd", "24be90f8bd46", "2ac58ef83a43", "e653a5b767e1", "96f9dd16d885", "8ace623dc513", "e1f8d26ec9e4", "84e848c515a7", "ab560bbbc365", "ef3e0b6f603c", "75eadc692865", "a8d34a7c4784", "fef7464d8a5c", "ac91b63e6fcf", "4bbb11283672", "ef1dd029fdba", "d41e2ec23072", "3fe2e4f5e8d7", "9f6aa13cc2c6", "3b9717c941a0", "5b5d7b573686", "f63c05ac0b67", "e24faac19e98", "6dcb3818a91d", "36961b616f15", "03671b020c35", "8463fccf49e3", "158bfdb63b5d", "acdcb9bab8d1", "2769b7d83686", "5b8c96712ed1", "deb2d8f2d46a", "88bf86273c61", "90c942dab986", "f46c083114da", "b4e130f58d9a", "8dde33d0cdd8", "c4253ed4682e", "730067b00c34", "845ed9658163", "cefbec47363f", "2fd5c50dcafc", "74e406e99ac0", "ea651a34a3a4", "0ac999223c1a", "1eef6dfdb9a5", "c759325d8454", "fb5ceb604a40", "afbd1e2e4ff3", "7faa51cb4a57", "bef1ad609328", "5403a9703c13", "c3164aeb4278", "6a7e8fecbb0d", "885c9dae1a31", "40e74caf3f3d", "5c7498105c07", "1d32a462775f", "f2779b6eecd1", "764fe8ef1908", "ece438d36021", "a4123bb59b93", "b8fc3c54159e", "4ef7cc2a7884", "74c668b1b327", "4798b2603134", "e341b067e17a", "104340dd8cf2", "958f20630c3c", "6baf58521aa0", "b1cd7161349d", "44b297455464", "bdeeb60e6f0f", "fe68a146a41c", "e8774da11573", "778b2eefc6eb", "5f425a300336", "91e5ff5d55d8", "a4ec910f7f99", "7fb759f98f2c", "636b9e7e750f", "0bec8842e99b", "6d149dff1b16", "7f32b8fed67b", "e1a6382d862f", "f084dfd37bc3", "0577db731315", "50aff9e71ce0", "aae18aa80196", "2ee16de3013c", "8f8a166218e8", "f964936edd4b", "1d09f801448a", "8089b456af8b", "23e590559e8c", "15fd2ed2eac4", "feecb96e0e78", "9a589498525f", "e626ad13fa1e", "b4a95e57e04a", "e0ac4f7824bb", "08f3c76a9538", "2ce3de985a9d", "4a6b1e379c45", "405f622969f6", "3754293d36a9", "20e6dc630b1c", "133e61fffae2", "08b04ff5c876", "817ed9472793", "91db4e598dbc", "34b1b4c9f3a6", "acb717f98f69", "4d4718ab3a10", "4d9cc4f58092", "81740ab8d15f", "abed408c13d9", "d1c01b8b709c", "1befbdf13d9d", "2714d1e2f339", "c88a6fe9bff1", "3cc7b94d0db7", "1869ffb04a4b", "d63037d4c832", "373bf2223f51", "a9525b6f4a7f", "149d5982754b", "cdf34d849e2d", "db364893df16", "94bf77333a73", "e688a72ff837", "1c6b912f3f2c", "5f29a7f531b1", "56b293ccf028", "14f95d385ce2", "1d34136e732a", "e15173d22967", "360e29ce7c4e", "712b6cb41fc9", "755d09be3d2a", "08ff0a7db5cb", "0daa238a41e4", "f04c5b69ec36", "d2dee2fd7ef1", "2b970d2d8888", "f8ca274d87f5", "68ddc1655403", "7f526c94d6ce", "2e70e4aff708", "04a3d4289bd8", "b08a906d1242", "c025ee52f90b", "857cde5469cc", "39b4c0a6df2c", "e7b3cd9f540e", "21bb664c99e5", "64fac8b65dd8", "c8ae48c2a96d", "b08eb26dbb45", "872243e39b41", "bddbec623653", "44caf6f09cf6", "27adb7c4f621", "2f4590b37d20", "6febf1b84f01", "0126b88c564f", "adfd1d97da10", "d2a6235454c5", "a477fbcf7820", "18520696fcb8", "8be5ed168fff", "7d5aa6f13116", "262452f8db5b", "70267eb683f8", "293b8ffbfdae", "8b4ac57e3848", "7003a17e4e59", "379e8d53afd6", "ed403b8d8daa", "0e8ad05490a5", "37f7ee8fd97a", "a137dd488bde", "a1c04bd763f6", "f2bb31d39d07", "f1df32451327", "e9b3d69b8ba9", "16fc9deec324", "d9be29aabc1a", "d0e78e19b08d", "64dd39e108d7", "41757f67bf65", "163e1cb6a721", "51367cc53064", "75f9ca3c9049", "4228bfacaca9", "dc8102e41b84", "8294fde546a2", "4f0f75d2534d", "7956e05b61a4", "8b36b58360eb", "dbcfca08e80f", "6349dd49f260", "3601cc6ebb79", "f6cb160cde83", "da012cdc1d0c", "7cecc26ba99b", "6afee9e1dc6c", "ada4e4f85170", "f968d3498ff7", "ffca485bb224", "71a1e8f7dc80", "3c2a15809546", "dc43dc708662", "f758c0e64a9c", "9b246ca00f15", "a9d631881902", "18cbcb5ed9c4", "5083112247df", "0b62cc1ef3fa", "a8a426f00de5", "84301d69a3ed", "6712fe253450", "eaae649ccc2f", "2f11f5d77f3e", "a4cd0a7d226e", "397c29f1bcdd", "8eab72c63621", "09b275f51878", "b4ef977ecda2", "ffcdf2c7598c", "9cf399fa20f7", "2c787b8bc2d5", "a65cc6934c2e", "d7262dbabf4f", "1bb26cc68af5", "d7b98c15cac4", "1564bcca8896", "3c82839aee74", "9cddeb35b098", "91506fd12f9b", "ac6c4db6d32b", "b20f9e36e4c7", "861a0d355def", "35b411df56e1", "16c7c52e7a35", "e17e69c530eb", "32fd29c2fe1a", "3fe46100cec3", "8f0785177eda", "faab3f6687de", "d55abfb0e649", "2eabeffa1e50", "2653810a82f1", "bd8f13c4c090", "4ba601471faf", "e842adeace38", "e85e6f610033", "c268cf6ff42c", "0188f8cf1117", "54525fd2f77e", "16799b752d01", "52f57f700088", "5e140b3a338d", "936b8a934385", "65cb6d31f78c", "1cf092866010", "0071dd10345b", "db4594759753", "f9c7680752d0", "6dd04e028354", "ed55b5e46869", "d5bd868e45f5", "3d3b9400386e", "c2cb1362cf0b", "46edb4bab4c7", "72093e7f2c8f", "9ed75f55657b", "d38c86f20ced", "ce6783f5c7c3", "fcf40fa3ea52", "69eb8d934377", "f8ad139c8940", "d3073030bfc9", "d9bc4d3bf1ba", "7803cb10e7e7", "ada915209eba", "7bea0f2ea493", "78bb26b39189", "94409726164c", "2d000f6e06ad", "11d5005df065", "c4aa42398a96", "1d97606e0b40", "928fc3704eb0", "b019ab634a55", "01b94de8e868", "50f07cb356df", "f8a62f68da54", "94d827fa0ffc", "8e8e45eafbd3", "d9db2eda948c", "39bad1b148fa", "1371b233efdc", "af6c72a92783", "7f5a668e3843", "5d6ee8b2b50c", "fee7af1264b1", "e1009bbc0854", "372b74a4a5f7", "0a5290ca1839", "ae1a070e2eb8", "3a1ac630b4c7", "c4a0e83d15af", "9b056b720a7f", "81036e7c000b", "e2722de23388", "917eb63c7898", "217146676aa6", "5c917171f10e", "785a6d55b16c", "95374417ee3f", "3a4b15ab5e64", "66e8d684459e", "f638b8903c9e", "162ad77af628", "92b43c46755c", "319bd98f71c8", "e6ceb0355202", "bdb4ca54d93a", "8257988f1089", "dfe094983634", "48c8aeb78fca", "78e8b1fa6ba0", "2e8b2397b923", "4fe3c9cc5631", "ba31c43d318d", "0b662fa9d5f1", "c29d5ed4e80e", "60283066d92a", "9df875c6e958", "28981ccc0e8f", "1a280ad9317f", "49c4c7aff982", "5b13a0981d27", "a309b578aad3", "1879c11e0fbc", "cc7bbf8d85b4", "b1d6fefb9d86", "1bcb295fc996", "4c9237116a7b", "bf2e420db0e1", "0e296a97babf", "40796160abfe", "f6762e71400d", "ced4181eff43", "12bf7e852156", "b9126e8ebbbd", "8e7595be11e5", "2467f19eb0a4", "290bc1eee05e", "55b16a6e6c8d", "26c1ae429969", "dbc042a898c7", "a1fe450ec68e", "58840301e24a", "aa13cc351ffd", "49de73dfd761", "e5b8b5bf36c8", "118e3c19ac6b", "e2f0fd8a0573", "19e879df1bf9", "2e0864491eaa", "2dc2c41fde9a", "c4de0c9d2d92", "43d0652265cc", "dfc880c1b57d", "a0b56fd41175", "cd458dc3769e", "18178686784b", "949511d173f2", "2d8b8f63a833", "a5f554d52127", "dc67d4dc2f27", "110053912c1f", "347247179608", "1e8391923181", "e2b2a22f0564", "c264a94afccb", "2b9d5c1795d4", "f8ea0e118e16", "2a82b3cefa7b", "cd59b5855cd1", "47fd8a9ab7c3", "a55d368e0959", "b9d7d906c917", "dfdb5acea24b", "5486fed56495", "31c46a380317", "4ea9d024f037", "5d125d09586e", "50b549527598", "7cad94d0f749", "4bf798d13a76", "bb276485a0ff", "bcb81c19e6da", "ae782c626761", "5a522a46ab79", "932967da6c37", "bf5b42b9353b", "e5c701499f82", "b5373941c17d", "8df51139be5f", "351e0e719019", "67c763952c74", "3fb598f9eaab", "a56de667110f", "64a7a488fc33", "5f35ba2121da", "3b843789525b", "9d964bb2110c", "6d8c3f9190bc", "f22b18fed1d5", "718f9f302c89", "19ecefd1a304", "8d2492466e75", "5486e464705f", "7c331a23ae9b", "46e88005db58", "f52ca9570a0e", "cc41b78dcd22", "94252866d374", "89b2372fec8f", "51a7e8bf2f2d", "f53964f28193", "3bfdac144000", "13fe13725f24", "7908ae74896e", "21753a0fd942", "aaccf33064e2", "d645ca622c43", "554c57295cdc", "2ad075b3d3ec", "37bf011f8476", "bd667ed1af25", "d6ed1dc622fb", "2a0af5ae6154", "3ed52ecde9e6", "d872641dcb21", "77d5b02b89fc", "7c93bd9365bf", "26935b26b7ae", "5aff1581c2e7", "4f57201882ef", "c2782ff53eff", "6aa0766eb776", "72b2b46d81c1", "84739a1d513e", "c69bbf6971ed", "2fb675e153f2", "379064d1f070", "94f24c3514e1", "664498ce6a9f", "5d7c9d5f3e19", "622fb15b8086", "4d23f818de29", "4d567eef873a", "4993c93fea6f", "ff18b1713d2d", "34b791dd2110", "5f7e46e97a44", "aaaf8543736a", "5361b55f612e", "04bee38e2028", "7ff15dc3c362", "46c225f48f59", "9312c3d05b7c", "51f783544ed4", "d790303357cc", "70b552521081", "4cf4a6aed7bc", "c9e28905a253", "6c58dcb6c255", "2e77d0a6839d", "df1f6ecc009a", "9eb3fcf20662", "2cf5e4b826f3", "bcef0800439f", "ef227b1c9d0a", "c4512bd0868b", "2b3f22fc2549", "fca99f88c837", "69974ea7316c", "b715cfbd55fe", "4f139736ba39", "ba1305c9125a", "8dc23f092885", "329d6ffa672c", "783d0d5be10a", "ac7dee0fc2be", "cc24353b48cb", "a9f3f2590c53", "57835e90bf96", "a78bb95ce42b", "3211baf65459", "1a561c1652bf", "1ac02e5e6f97", "d6fc4a67a1a8", "21c8ab4c1b30", "f9498d770f7e", "4a69bccef49b", "3f4bfaa0d92e", "5410bd01674b", "57dc8927c5ea", "158b7c91b365", "f4bec364a71d", "b4632f710eda", "4d68571d2358", "3a4ee93867b6", "977b16a75284", "a776319a9713", "41a5d2de4c53", "8c2e54ae46e3", "88d1e0e80cca", "691f17437430", "c8c855d95bf2", "12b9112e39d8", "d76ef591ebe3", "2a816c953f54", "5007e8327aa6", "e3cf23b2c80d", "81de5bc3741b", "4bbff09f8dce", "70c248848d2d", "fcdf08b088b4", "8c6e7768c668", "9e6f5868547b", "3fedef535735", "c1fb173df7f2", "8a4b6c54d2ce", "75d659a4ebc6", "6d226f220e04", "2fa05a6072d6", "d36345fc5f1b", "dc7b477b3733", "a9f2c3c9e520", "8a5ff174cc97", "2209827fd2c6", "1cfeef9decc3", "d3b6d49937f3", "6997e48c159d", "fc367df3d8e6", "774163493b04", "aafe6ef50f37", "1fb6487d4590", "e13979c18126", "e60268077a2a", "3f18a4e18614", "b2a089c7800e", "cdaa85e0bf32", "60b446664dbd", "a0f1bb7c569d", "84a2eeae8105", "28d22901b6d8", "cd39c94da46c", "86393a4f83b6", "702428599db6", "2550ee4099f5", "1b6267599438", "d0c2a2e5a1b5", "75513aa0ab97", "463f9697383d", "cad8a2c7a7a5", "15a859bc5f1d", "1a8919cfa73a", "21a7e33416b6", "080d7ecd979c", "a331b8b1dbd0", "68fe91337962", "3470f512d9ea", "32de4ce04c05", "9a34bd27afc9", "549b5d77d979", "140acca9fc54", "4691dfec9e1b", "3e84a7da52a9", "11b4432bf634", "ee58a66d4c2a", "f4247bd25b6b", "c88edc5b3f2d", "33f491dc21ac", "244c441f10f4", "7b7a4a29233f", "b2b79e3cea7b", "63dc15dc5b00", "fce37f84216c", "400da7177be5", "fb49f32827f5", "037d6c8cdc10", "67d227bc0f47", "7dc12d59d192", "539b48d18f12", "b215d226af08", "adbeefaafffd", "8b2bd0f1d578", "d7a26e31a2ba", "6e321573c0ec", "11a3c065bd63", "abd02eb5574b", "3f4ebbe1987a", "2ea8bf3fc112", "70d81cc6e0e9", "02f211e17cc6", "38bf80d6e894", "af6c33384828", "658b84ebc07e", "78db7c4c33fc", "80352a4871c3", "84b17b27e2af", "5234782d00d2", "0e96ddd8498b", "22feaf9facf9", "fab1031514d4", "24d52d38edcf"]', 1477, 20, 1795798963200, NULL, NULL, NULL, NULL, NULL);
INSERT INTO ticketd.bookings VALUES ('late', 'jazz', 3, 'confirmed', '["82e12f9fd772", "4e371fe402dc", "368da85dd2e8"]', 2485, 3, 1795798932191, 30, 1795798962191, 'Order 7\8 “Zoë” "''', 'box-1', '[["expire", 2490, 4, 1795798963192, [], null, null], ["confirm", 2487, 5, 1795798963192, [], null, null]]');
INSERT INTO ticketd.bookings VALUES ('released', 'jazz', 2, 'released', '[]', 2481, 9, 1795798963194, 60, 1795799023194, NULL, NULL, '[["release", 2483, 10, 1795798963195, [], null, "box-1"]]');
INSERT INTO ticketd.bookings VALUES ('sold-out', 'blues', 3, 'confirmed', '["eb3a34e427d3", "92fab6af3237", "de74fee87abd"]', 0, 1, 1795798963193, NULL, NULL, NULL, 'box-1', NULL);
INSERT INTO ticketd.events OVERRIDING SYSTEM VALUE VALUES (1, 'jazz', 'Jazz, amended', '2028-02-29 20:00:00.123456+00', 2500, 1477, 4, 1019, 20, 10, NULL, NULL, false, NULL, 1, '["Zürich “Jazz” \"\\\"", "2028-02-29T20:00:00.123456Z", 2000, null, null, false, null]', '753');
INSERT INTO ticketd.events OVERRIDING SYSTEM VALUE VALUES (2, 'blues', 'Blues', '0001-01-01 00:00:00+00', 3, 0, 0, 3, 1, 0, NULL, NULL, false, NULL, 0, NULL, '753');
INSERT INTO ticketd.events OVERRIDING SYSTEM VALUE VALUES (3, 'ample', 'Ample', '9999-12-31 23:59:59.999+00', 7, 7, 0, 0, 1, 0, -62135596800000, 253402300799999, true, 4, 1, '["Ample", "9999-12-31T23:59:59.999000Z", 7, 1835467200124, 253402300799999, true, 1000]', '753');
INSERT INTO ticketd.ledger VALUES (2, NULL, NULL, NULL, NULL, NULL);
INSERT INTO ticketd.redemptions VALUES ('annulled', '7b73b20aa9e1', 1, 'redeem', 1795798963198, 'door-2', 'user:Door\2');
INSERT INTO ticketd.redemptions VALUES ('annulled', '7b73b20aa9e1', 2, 'annul', 1795798963199, NULL, 'user:Door\2');
INSERT INTO ticketd.redemptions VALUES ('annulled', '7b73b20aa9e1', 3, 'redeem', 1795798963199, 'door-3', NULL);
INSERT INTO ticketd.redemptions VALUES ('annulled', '8eec0ed993b7', 1, 'redeem', 1795798963198, 'door-2', 'user:Door\2');
INSERT INTO ticketd.redemptions VALUES ('annulled', '8eec0ed993b7', 2, 'annul', 1795798963198, 'Wrong "door" \ €', NULL);
INSERT INTO ticketd.redemptions VALUES ('cancelled-in-part', '9c99bb3c4ba8', 1, 'redeem', 1795798963197, 'door-1', 'user:Door\2');
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
