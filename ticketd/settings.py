"""Turns flags, environment variables and the config file into options.

A flag overrides a variable, and a variable overrides the file.
"""

import argparse
import json
import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgspec

from ticketd import __version__
from ticketd.config import (
    STATUS_BUG,
    STATUS_CANNOT_LISTEN,
    STATUS_CANNOT_OPEN,
    STATUS_ENDED,
    STATUS_EVENTS_FILE,
    STATUS_LEDGER_FAILED,
    STATUS_USAGE,
    Limits,
    Options,
    Settings,
)
from ticketd.ledger.postgres.url import is_database_url, public_name, without_password
from ticketd.tools import COMMANDS
from ticketd.wire.address import check_host
from ticketd.wire.schema import Field, shown
from ticketd.wire.text import did_you_mean

CONFIG_BYTES_MAX = 1024 * 1024

_HINTS = get_type_hints(Settings, include_extras=True) | get_type_hints(Limits, include_extras=True)
_DEFAULTS: dict[str, Any] = {
    name: getattr(made, name) for made in (Settings(), Limits()) for name in made.__struct_fields__
}
_FIELDS = {name: Field(name, _HINTS[name], required=False) for name in _DEFAULTS}
_DEFAULT = "default"


class Given(NamedTuple):
    """A value, and where it is from: a flag, a variable, the file or ``_DEFAULT``."""

    value: Any
    source: str


def parse(arguments: list[str]) -> Options:
    """Return the options. If one is not valid, print why and exit with STATUS_USAGE.

    With ``--print-config``, print them as a config file, and exit.
    """
    parser = _parser()
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown))
    flags = vars(values)
    path = flags["config"] or os.environ.get("TICKETD_CONFIG") or None
    try:
        file = _read(path) if path else {}
        given = {name: _given(name, flags, file, path) for name in _FIELDS}
        options = _options(given, accept_losses=flags["accept_losses"])
    except ValueError as error:
        parser.error(str(error))
    if flags["print_config"]:
        print(_as_file(given), end="")
        parser.exit(STATUS_ENDED)
    return options


def _unknown(arguments: list[str]) -> str:
    """Return a sentence about arguments that are neither flags nor a command at the begin, and what was meant."""
    first = arguments[0].partition("=")[0]
    if first in COMMANDS:
        return f"{first} is a command, and comes first, without the flags of the daemon: ticketd {first} --help"
    flags = ("--config", "--print-config", "--accept-losses", "--version", *map(_flag, _FIELDS))
    kind, known = ("flag", flags) if first.startswith("-") else ("command", tuple(COMMANDS))
    return f"there is no {kind} {shown(first)}; {did_you_mean(first, known, 'see ticketd --help')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ticketd",
        usage="ticketd [options]\n       ticketd move SOURCE TARGET\n       ticketd check LEDGER"
        "\n       ticketd migrate URL [--grant ROLE]\n       ticketd access add|list|remove",
        description="Sells tickets over TCP, exactly once each. `move` moves a whole sale from one ledger to another,"
        " `check` verifies a ledger, `migrate` creates or upgrades the tables in a PostgreSQL, and `access` gives out"
        " tokens. Every flag with a value is an environment variable too: --idle-seconds-max is"
        " TICKETD_IDLE_SECONDS_MAX. A flag overrides its variable, and both override the config file.",
        epilog=f"exit status: {STATUS_ENDED} ended by a signal, {STATUS_USAGE} a bad flag,"
        f" {STATUS_CANNOT_LISTEN} cannot listen or serve, {STATUS_EVENTS_FILE} the events file is not valid,"
        f" {STATUS_CANNOT_OPEN} cannot open the ledger, {STATUS_LEDGER_FAILED} the ledger failed while running,"
        f" {STATUS_BUG} a bug ended it (after these two, start it again: nothing acknowledged is lost)",
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"ticketd {__version__}")
    parser.add_argument("--config", metavar="FILE", help="read settings from this TOML file: keys are flags without --")
    parser.add_argument("--print-config", action="store_true", help="print all settings as such a file, and exit")
    parser.add_argument(
        "--accept-losses",
        action="store_true",
        help="open a ledger that lacks acknowledged commits, or its seal; what they sold is on sale again",
    )
    groups: dict[str | None, Any] = {None: parser}
    for name, field in _FIELDS.items():
        extra = {key: value for meta in _HINTS[name].__metadata__ for key, value in (meta.extra or {}).items()}
        title = "limits" if name in Limits.__struct_fields__ else extra.get("group")
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        names = [*([extra["short"]] if "short" in extra else []), _flag(name)]
        if field.type is bool:
            # None, so that it does not override the file.
            groups[title].add_argument(*names, action="store_true", default=None, help=field.description)
            continue
        default = f"{_DEFAULTS[name]:g}" if isinstance(_DEFAULTS[name], float) else str(_DEFAULTS[name])
        groups[title].add_argument(
            *names,
            metavar=extra.get("metavar", field.metavar),
            help=f"{field.description} ({default})" if default else field.description,
        )
    return parser


def _read(path: str) -> dict[str, Any]:
    """Return what is in the config file. Raises ValueError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot read the config file {path} ({error.strerror})") from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ValueError(f"the config file {path} is larger than {CONFIG_BYTES_MAX >> 20} MiB")
    try:
        settings = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise ValueError(f"the config file {path} is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"the config file {path} is not TOML: {error}") from None
    known = {_flag(name).removeprefix("--") for name in _FIELDS}
    for key in settings:
        if key not in known:
            hint = did_you_mean(key, known, "ticketd --print-config shows all settings")
            raise ValueError(f"the config file {path} has an unknown key {shown(key)}; {hint}")
    return {key.replace("-", "_"): value for key, value in settings.items()}


def _given(name: str, flags: dict[str, Any], file: dict[str, Any], path: str | None) -> Given:
    """Return the value of a setting. Raises ValueError if it is not valid."""
    field, variable = _FIELDS[name], f"TICKETD_{name.upper()}"
    typed: Any = None
    if flags[name] is not None:
        typed, source, strict = flags[name], _flag(name), False
    elif field.type is not bool and os.environ.get(variable):
        typed, source, strict = os.environ[variable], variable, False
    elif name in file:
        typed, source, strict = file[name], f"{_flag(name).removeprefix('--')} in {path}", True
        if name == "metrics" and type(typed) is int:
            # A port alone.
            typed = str(typed)
    else:
        return Given(_DEFAULTS[name], _DEFAULT)
    if field.choices and isinstance(typed, str):
        typed = typed.lower()
    try:
        return Given(msgspec.convert(typed, _HINTS[name], strict=strict), source)
    except msgspec.ValidationError:
        raise ValueError(f"{source} must be {field.must_be}, not {shown(_plain(typed))}") from None


def _plain(value: Any) -> Any:
    """Return what a message can show of a value of TOML, which also has times."""
    return value if isinstance(value, str | bool | int | float | list | dict) else str(value)


def _options(given: dict[str, Given], *, accept_losses: bool) -> Options:
    """Return the options. Raises ValueError if some do not go together."""
    if given["connections_per_address_max"].source == _DEFAULT and given["connections_max"].source != _DEFAULT:
        # One address gets a quarter of them.
        quarter = max(1, given["connections_max"].value // 4)
        given["connections_per_address_max"] = Given(quarter, _DEFAULT)
    values = {name: each.value for name, each in given.items()}
    check_host(given["host"].source, values["host"])
    events = Path(values["events"])
    if not events.name:
        raise ValueError(f"{given['events'].source} must be a file")
    if not values["ledger"] and (given["ledger"].source != _DEFAULT or os.environ.get("TICKETD_LEDGER") == ""):
        # Probably a variable that was not set. The default would be another ledger, which sells the same tickets again.
        raise ValueError("TICKETD_LEDGER or --ledger is empty; leave it out for a ledger beside the events file")
    for name in ("access", "tls_certificate", "tls_key"):
        if given[name].source == _DEFAULT and os.environ.get(variable := f"TICKETD_{name.upper()}") == "":
            # The same: without it, less would be protected.
            raise ValueError(f"{variable} is empty; give a file, or leave it out to go without one")
    ledger, source = values["ledger"] or str(events.with_name("events.db")), given["ledger"].source
    given["ledger"] = Given(ledger, source)
    shared = is_database_url(ledger)
    if shared:
        try:
            public_name(ledger)
        except ValueError as error:
            raise ValueError(f"{source} {error}") from None
    if "://" in ledger and not shared:
        raise ValueError(f"{source} must be {_FIELDS['ledger'].must_be}")
    if shared and accept_losses:
        raise ValueError("--accept-losses is for a ledger in a file")
    if given["unix_mode"].source != _DEFAULT and not values["unix"]:
        raise ValueError(f"{given['unix_mode'].source} needs --unix")
    if values["sales_per_second_max"] and not values["access"]:
        raise ValueError(f"{given['sales_per_second_max'].source} needs --access: without tokens, nobody is told apart")
    if values["access"] and values["open_to_the_network"] and not values["metrics"]:
        raise ValueError(
            "--open-to-the-network is for those without --access, and for --metrics; leave one of them out"
        )
    if values["tls_key"] and not values["tls_certificate"]:
        raise ValueError(f"{given['tls_key'].source} needs --tls-certificate")
    return Options(
        host=values["host"],
        port=values["port"],
        events=events,
        sync_events=given["events"].source != _DEFAULT or not shared,
        ledger=ledger,
        accept_losses=accept_losses,
        limits=Limits(**{name: values[name] for name in Limits.__struct_fields__}),
        log_level=values["log_level"],
        log_format=values["log_format"],
        log_sales=values["log_sales"],
        metrics=_host_and_port(given["metrics"]),
        open_to_the_network=values["open_to_the_network"],
        plain_tokens=values["plain_tokens"],
        words=not values["no_words"],
        unix_mode=int(values["unix_mode"], 8),
        **{
            name: Path(values[name]) if values[name] else None
            for name in ("access", "unix", "tls_certificate", "tls_key")
        },
    )


def _host_and_port(given: Given) -> tuple[str, int] | None:
    """Return the two parts of ``[HOST:]PORT``, or None. Raises ValueError."""
    if not given.value:
        return None
    host, _, port = given.value.rpartition(":")
    if int(port) > 65_535:
        raise ValueError(f"{given.source} must have a port from 0 to 65535, not {shown(port)}")
    return host.removeprefix("[").removesuffix("]") or Settings().host, int(port)


def _as_file(given: dict[str, Given]) -> str:
    """Return the settings as a config file, without passwords. Those that are not set are comments."""
    lines = []
    for name, (value, source) in given.items():
        if name == "ledger" and is_database_url(value):
            value = without_password(value)
        key = _flag(name).removeprefix("--")
        # What JSON writes is TOML too, but for DEL.
        written = json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
        if source == _DEFAULT:
            lines.append(f"# {key} = {written}" if value != "" else f"# {key} =")
        else:
            lines.append(f"{key} = {written}  # {source}")
    return "".join(f"{line}\n" for line in lines)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
