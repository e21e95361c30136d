"""What is promised when PostgreSQL ends and starts again."""

import random
from pathlib import Path

from tests.daemon import until, write_events
from tests.faults import database
from tests.faults.fleet import Fleet
from tests.postgres import Postgres

ENDS = 10


def test_database_restarts_lose_and_double_no_change(
    chance: random.Random, tmp_path: Path, bundled_postgres: Postgres
) -> None:
    # Over 5 s: PostgreSQL starts again about five times, and each time two daemons sell to a crowd.
    figures = database.end_again_and_again(chance, ENDS, tmp_path, bundled_postgres)
    assert figures["refused by outage"] == figures["outcome_unknown"] == 0


def test_a_database_outage_answers_busy_and_then_sales_resume(tmp_path: Path, bundled_postgres: Postgres) -> None:
    write_events(tmp_path, 10)
    with Fleet(tmp_path, bundled_postgres.new_database()) as fleet:
        with fleet.start("--queue-seconds-max", "1").connect() as client:
            bundled_postgres.stop("immediate")
            refused = client.ask("book 1 2 --booking a")
            assert (refused["code"], client.ask("show 1")["available"]) == ("busy", 10)
            bundled_postgres.start()
            until(lambda: client.ask("book 1 2 --booking a").get("version") == 1)
        fleet.end()
