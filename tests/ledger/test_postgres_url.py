"""What the URL of a database may say: hosts are found as the driver finds them, and parameters work or are refused."""

from inspect import signature

import pytest
from asyncpg import connect_utils

from tests.daemon import Daemon
from tests.postgres import query
from ticketd.ledger.postgres.pool import Pool
from ticketd.ledger.postgres.url import hosts_of


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sales@db.internal/tickets",
        "postgresql://db.internal:6543/tickets",
        "postgresql://sales:secret@a:1,b:2/tickets",
        "postgresql://sales@a,b:2,c/tickets",
        "postgresql://a,b/tickets?port=1,2",
        "postgresql://sales@/tickets?host=a,b&port=1,2",
        "postgresql://sales@/tickets?host=a,b:7&port=1",
        "postgresql:///tickets?host=a,b:7",
        "postgresql://[::1]:1/tickets",
        "postgresql://%2Frun%2Fpostgresql:7/tickets",
        "postgresql:///tickets?host=/run/postgresql",
        "postgresql:///tickets?host=/run/postgresql,b&port=7",
    ],
)
@pytest.mark.parametrize("environment", [{}, {"PGPORT": "77"}, {"PGHOST": "e:5,f", "PGPORT": "78"}])
def test_hosts_are_those_that_the_driver_would_try(
    url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parse = connect_utils._parse_connect_dsn_and_args  # type: ignore[attr-defined]
    unset = dict.fromkeys(signature(parse).parameters)
    addresses, _ = parse(**unset | {"dsn": url, "user": "sales"})
    names, ports = zip(*hosts_of(url), strict=True)
    assert parse(**unset | {"host": names, "port": ports, "user": "sales"})[0] == addresses


def test_a_url_without_hosts_leaves_the_search_to_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [tuple(host) for host in hosts_of("postgresql:///tickets")] == [(None, None)]
    monkeypatch.setenv("PGHOST", "a,b:2")
    assert [str(host) for host in hosts_of("postgresql:///tickets?port=7")] == ["a:7", "b:7"]


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("connect_timeout=10", "cannot have connect_timeout; leave it out: ticketd gives each host 2 s"),
        ("keepalives=1", "cannot have keepalives; leave it out"),
        ("keepalives_idle=5", "cannot have keepalives_idle; leave it out"),
        ("tcp_user_timeout=5000", "cannot have tcp_user_timeout; leave it out"),
        ("channel_binding=require", "cannot have channel_binding; leave it out, and use sslmode=verify-full"),
        ("service=sales", "cannot have service; write host, port and database of the service into the URL"),
        ("gssencmode=require", "cannot have gssencmode=require; to encrypt, use sslmode=verify-full"),
        ("load_balance_hosts=random", "cannot have load_balance_hosts=random; leave it out"),
        ("target_session_attrs=standby", "cannot have target_session_attrs=standby; leave it out"),
        ("port=1,2,3", "has 3 ports for 2 hosts; give each host its own, or all of them one"),
        ("port=many", "is not the URL of a database"),
    ],
)
def test_a_parameter_that_cannot_work_is_refused_by_name(parameter: str, says: str) -> None:
    daemon = Daemon("--ledger", f"postgresql://sales:secret@/tickets?host=a,b&{parameter}")
    assert (daemon.wait(), f"--ledger {says}" in daemon.lines[-1]) == (2, True), daemon.lines
    assert not any("secret" in line for line in daemon.lines)


@pytest.mark.parametrize(
    ("parameters", "settings"),
    [
        ("", {"application_name": "ticketd"}),
        ("application_name=box+office", {"application_name": "box office"}),
        ("options=-c%20work_mem%3D5MB%20-c%20geqo%3Doff", {"work_mem": "5MB", "geqo": "off"}),
        ("work_mem=6MB", {"work_mem": "6MB"}),
        ("gssencmode=disable&load_balance_hosts=disable", {"application_name": "ticketd"}),
        ("target_session_attrs=read-write", {"application_name": "ticketd"}),
    ],
)
async def test_a_parameter_that_works_reaches_the_database(
    parameters: str, settings: dict[str, str], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ticketd takes a primary whatever this says.
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    pool = Pool(f"{database}?{parameters}")
    async with pool.lend() as connection:
        for name, value in settings.items():
            assert await connection.fetchval("SELECT current_setting($1)", name) == value
    pool.close()


@pytest.mark.parametrize(
    ("allowed", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
async def test_commits_are_as_durable_as_the_database_says_or_more(allowed: str, used: str, database: str) -> None:
    name = database.rpartition("/")[2]
    query(database, f"ALTER DATABASE {name} SET synchronous_commit = {allowed}")
    pool = Pool(database)
    async with pool.lend() as connection:
        assert await connection.fetchval("SELECT current_setting('synchronous_commit')") == used
    pool.close()
