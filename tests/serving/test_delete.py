"""``delete``, as clients and watchers see it. On both ledgers."""

import pytest

from tests.daemon import Connection, Daemon, until

DATE = "2027-03-11T20:00:00Z"


def create(connection: Connection, event: str, options: str = "") -> None:
    assert connection.ask(f"create Jazz {DATE} 10 --id {event} {options}")["version"] == 0


def test_a_deleted_event_is_gone_wherever_it_was_shown(sale: Daemon) -> None:
    with sale.connect() as connection:
        for event in ("first", "wrong", "last"):
            create(connection, event)
        known = [event["id"] for event in connection.events()]
        shown = connection.ask("show wrong")
        assert connection.ask("delete wrong") == shown
        assert [event["id"] for event in connection.events()] == [id for id in known if id != "wrong"]
        for line in ("show wrong --kind event", "watch wrong", "book wrong 1", "book wrong 1 --booking wrong-1"):
            assert connection.ask(line)["code"] == "event_not_found"
        assert connection.ask("list --after first --limit 1")["events"][0]["id"] == "last"
        for line in ("delete wrong", "amend wrong --paused"):
            assert connection.ask(line)["code"] == "event_not_found"
        connection.send(b"watch\n")
        assert [connection.read()["id"] for _ in known[1:]] == [id for id in known if id != "wrong"]


def test_an_event_may_be_amended_and_then_deleted(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "amended", "--per-buyer 3")
        assert connection.ask("amend amended --paused --capacity 7")["version"] == 1
        assert connection.ask("delete amended")["capacity"] == 7


@pytest.mark.parametrize("end", ["confirm {0}", "release {0}", "cancel {0}", ""])
def test_what_was_ever_sold_or_held_stays(sale: Daemon, end: str) -> None:
    event = f"used-{end.split(' ')[0]}"
    with sale.connect() as connection:
        create(connection, event)
        if end.startswith("cancel"):
            connection.ask(f"book {event} 1 --booking {event}-1")
        else:
            connection.ask(f"hold {event} 1 --seconds {60 if end else 1} --booking {event}-1")
        if end:
            assert connection.ask(end.format(f"{event}-1"))["reply"] == "booking"
        else:
            until(lambda: connection.ask(f"show {event}-1")["state"] == "expired")
        before = connection.ask(f"show {event}")
        refusal = connection.ask(f"delete {event}")
        assert refusal["code"] == "event_in_use"
        assert f"amend {event} --paused" in refusal["message"]
        assert connection.ask(f"show {event}") == before
        assert connection.ask(f"amend {event} --paused")["paused"]
        assert connection.ask(f"book {event} 1")["code"] == "not_on_sale"


def test_an_event_with_sales_elsewhere_stays(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "elsewhere", "--available 9")
        assert connection.ask("delete elsewhere")["code"] == "event_in_use"


def test_watchers_of_all_events_go_on_without_the_deleted_one(sale: Daemon) -> None:
    with sale.connect() as connection, sale.connect() as watcher, sale.connect() as only:
        create(connection, "wrong-2")
        create(connection, "right-2")
        events = len(connection.events())
        watcher.send(b"watch\n")
        for _ in range(events):
            watcher.read()
        assert only.ask("watch wrong-2")["id"] == "wrong-2"
        connection.ask("delete wrong-2")
        told = only.read()
        assert (told["code"], told["message"]) == (
            "event_not_found",
            "event wrong-2 was removed, so no more changes come",
        )
        assert only.rest() == b""
        connection.ask("book right-2 1")
        assert watcher.read() == connection.ask("show right-2")
        # Its id is free again, and whoever watches all sees the new one.
        create(connection, "wrong-2", "--paused")
        assert watcher.read() == connection.ask("show wrong-2")


def test_an_id_is_free_again_and_is_another_event(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "again")
        connection.ask("amend again --capacity 20")
        connection.send(f"delete again\ncreate Rock {DATE} 5 --id again\nbook again 2\nshow again\n".encode())
        deleted, created, booked, shown = [connection.read() for _ in range(4)]
        assert (deleted["capacity"], created["version"], booked["available"]) == (20, 0, 3)
        assert (shown["name"], shown["capacity"], shown["sold"], shown["version"]) == ("Rock", 5, 2, 1)
        assert connection.events()[-1]["id"] == "again"
        # The create of before is not replayed.
        assert connection.ask(f"create Jazz {DATE} 10 --id again")["code"] == "event_exists"
        assert connection.ask("delete again")["code"] == "event_in_use"
