"""Wrong tokens, as many as somebody likes to try: none is let in, more of them have to wait, and right ones do not."""

import asyncio
import random
import statistics
import string
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from tests.faults.guarded import Guard, Guarded, Talk, auth
from ticketd.access_file import TOKENS_MAX, AccessList, Token, digest
from ticketd.errors import TicketError
from ticketd.serving.access import FAILURES_PER_SECOND_MAX, Access
from ticketd.wire.requests import Auth
from ticketd.wire.roles import Role

ROLES: list[Role] = ["reader", "seller", "door", "manager"]
ALPHABET = string.ascii_letters + string.digits + "-_"
GUESSERS = 40
# More than are looked at in a second.
AT_ONCE = FAILURES_PER_SECOND_MAX + 2
# One in so many connections of guessers is of a stranger, who can try one token.
STRANGERS_ONE_IN = 5

# Two lists with the same content take different times too, as their memory is in other places. So each has some.
LISTS = 24
COMPARISONS = 600
# More standard errors away from nothing are no chance. A try in which others use the machine counts less than others.
DEVIATIONS_MAX = 4.0
TRIES = 4

KINDS: dict[str, Callable[[str, random.Random], str]] = {
    "any": lambda secret, chance: "".join(chance.choices(ALPHABET, k=len(secret))),
    "one character is another": lambda secret, chance: _with_another(secret, chance.randrange(len(secret))),
    "wrong at the end": lambda secret, _: _with_another(secret, len(secret) - 1),
    "cut": lambda secret, chance: secret[: chance.randint(20, len(secret) - 1)],
    "longer": lambda secret, chance: secret + chance.choice(ALPHABET),
    "twice": lambda secret, _: secret * 2,
    "in other letters": lambda secret, _: secret.swapcase(),
    "from a stolen file": lambda secret, _: digest(secret),
    "its name": lambda _, chance: (chance.choice(ROLES) * 20)[: chance.randint(20, 60)],
}


def wrong_token(secrets: list[str], chance: random.Random) -> str:
    """Return a token that nobody has, though somebody may have one much like it."""
    return KINDS[chance.choice(list(KINDS))](chance.choice(secrets), chance)


def run(chance: random.Random, count: int, folder: Path) -> dict[str, float]:
    """Try so many wrong tokens, from many addresses; then see that the right ones are let in at once."""
    guard = Guard(folder)
    for role in ROLES:
        guard.add(role, role)
    figures: Counter[str] = Counter()
    with guard.daemon("closed", "--plain-tokens", "--log-level", "warning") as closed:
        guard.let_in_anybody("reader")
        # What others may read, anybody may: so they can try many tokens on one connection.
        with guard.daemon("open", "--plain-tokens", "--log-level", "warning") as opened:
            uvloop.run(_guess(chance, count, guard, closed, opened, figures))
            uvloop.run(_are_let_in(guard, closed, opened))
    assert figures["looked at"] > figures["made to wait"] > 0, figures
    return dict(figures)


async def _guess(
    chance: random.Random, count: int, guard: Guard, closed: Guarded, opened: Guarded, figures: Counter[str]
) -> None:
    secrets = list(guard.secrets.values())

    async def guesser() -> None:
        while figures["wrong tokens"] < count:
            alone = chance.randrange(STRANGERS_ONE_IN) == 0
            tokens = [wrong_token(secrets, chance) for _ in range(1 if alone else AT_ONCE)]
            figures["wrong tokens"] += len(tokens)
            address = f"127.{chance.randint(1, 255)}.{chance.randint(0, 255)}.{chance.randint(1, 254)}"
            async with await (closed if alone else opened).connect(address=address) as talk:
                await _try(talk, tokens, figures)
                if alone:
                    # Whoever is wrong must connect again.
                    assert await talk.rest() == []

    async with asyncio.TaskGroup() as guessers:
        for _ in range(GUESSERS):
            guessers.create_task(guesser())


async def _try(talk: Talk, tokens: list[str], figures: Counter[str]) -> None:
    began = time.monotonic()
    # In words, what begins with a dash is an option.
    lines = [
        auth(token) if number % 2 or token[0] == "-" else f"auth {token}".encode()
        for number, token in enumerate(tokens)
    ]
    talk.writer.write(b"\n".join([*lines, b""]))
    replies = [await talk.hear() for _ in tokens]
    seconds = time.monotonic() - began
    codes = Counter(reply.get("code") for reply in replies)
    assert codes.keys() <= {"unauthorized", "busy"}, f"wrong tokens were answered {replies}"
    # Somebody else may have had this address, but only in other seconds: there are millions.
    most = FAILURES_PER_SECOND_MAX * (int(seconds) + 2)
    assert codes["unauthorized"] <= most, f"{codes['unauthorized']} tokens of one address within {seconds:.3f} s"
    figures["looked at"] += codes["unauthorized"]
    figures["made to wait"] += codes["busy"]


async def _are_let_in(guard: Guard, closed: Guarded, opened: Guarded) -> None:
    """See that the right tokens are let in, after too many wrong ones too."""
    for daemon in (closed, opened):
        for name, secret in guard.secrets.items():
            async with await daemon.connect() as talk:
                assert (await talk.ask(auth(secret)))["name"] == name
    async with await opened.connect(address="127.0.0.9") as talk:
        while (await talk.ask(auth("x" * 43)))["code"] != "busy":
            pass
        assert (await talk.ask(auth(guard.secrets["seller"])))["reply"] == "welcome"


def compare_times(chance: random.Random) -> dict[str, float]:
    """Compare how long it takes to refuse a token whose hash is wrong at the beginning, and one at the end."""
    token = "".join(chance.choices(ALPHABET, k=43))
    first: list[float] = []
    last: list[float] = []
    deviations = 0.0
    for _ in range(TRIES):
        times = _times(token, [_access_unlike(token, -(number % 2)) for number in range(2 * LISTS)], chance)
        deviations += _deviations(times[::2], times[1::2]) / TRIES**0.5
        first += times[::2]
        last += times[1::2]
    figures = {
        "ns, wrong first": statistics.mean(first),
        "ns, wrong last": statistics.mean(last),
        "standard errors of the difference": deviations,
    }
    assert abs(deviations) <= DEVIATIONS_MAX, f"the time tells how much of a hash is right: {figures}"
    return figures


def _access_unlike(token: str, place: int) -> Access:
    """Return a list of as many tokens as there can be; all have the hash of this one, but for one digit."""
    digits = list(digest(token))
    digits[place] = "1" if digits[place] == "0" else "0"
    other = "".join(digits)
    return Access(AccessList([Token(f"t{number}", "seller", other) for number in range(TOKENS_MAX)]))


def _times(token: str, lists: Sequence[Access], chance: random.Random) -> list[float]:
    """Return how many nanoseconds each of them takes."""
    times: list[list[int]] = [[] for _ in lists]
    order = list(range(len(lists)))
    for second in range(COMPARISONS):
        chance.shuffle(order)
        for at in order:
            # Each in a second of its own, so that none is told to wait.
            began = time.perf_counter_ns()
            try:
                lists[at].authenticate(Auth(token), "somebody", second)
            except TicketError as error:
                times[at].append(time.perf_counter_ns() - began)
                assert error.code == "unauthorized"
    # Of the fastest ones: the others were interrupted.
    return [statistics.quantiles(each, n=20)[0] for each in times]


def _deviations(some: list[float], others: list[float]) -> float:
    error: float = (statistics.variance(some) / len(some) + statistics.variance(others) / len(others)) ** 0.5
    return (statistics.mean(others) - statistics.mean(some)) / error


def _with_another(secret: str, place: int) -> str:
    another = ALPHABET[(ALPHABET.index(secret[place]) + 1) % len(ALPHABET)]
    return secret[:place] + another + secret[place + 1 :]
