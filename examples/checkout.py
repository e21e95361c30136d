"""A shop's checkout: hold the tickets while the buyer pays, then sell them.

python checkout.py EVENT QUANTITY [PORT [HOST [ORDER]]]

With the number of an order that was interrupted, it goes on with that order.
"""

import sys
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

from ticketctl import CannotConnectError, Client, OutcomeUnknownError, RefusedError

T = TypeVar("T")


def pay(order: str) -> bool:
    """Take the money, once for an order: in place of your payment provider."""
    print(f"order {order} is paid", file=sys.stderr)
    return True


def settle(ask: Callable[[], T]) -> T:
    """Ask until the outcome is known. What has an id is done once, however often it is asked for."""
    while True:
        try:
            return ask()
        except (OutcomeUnknownError, CannotConnectError) as failure:
            # Whoever has paid must not lose the tickets because the daemon is gone for a while.
            print(f"once more: {failure}", file=sys.stderr)
            time.sleep(0.5)


def checkout(client: Client, order: str, event: str, quantity: int) -> list[str]:
    """Sell tickets of an event to one buyer, and return their ids. Raises RefusedError.

    The number of the order is the id of the booking. Write it down before you call this. After a crash, call it again
    with the same number.
    """
    held = settle(lambda: client.hold(event, quantity, seconds=600, booking=order))
    print(f"order {order} is {held.state}", file=sys.stderr)
    if not pay(order):
        settle(lambda: client.release(order))
        return []
    # Who has paid gets the tickets even if the hold has just run out, as long as they are there. If they are not, this
    # is hold_expired: pay the buyer back.
    sold = settle(lambda: client.confirm(order, late=True))
    return list(sold.tickets)


def main(event: str, quantity: str, port: str = "8080", host: str = "127.0.0.1", order: str = "") -> int:
    """Sell, and return the exit status."""
    order = order or str(uuid.uuid4())
    with Client(host, int(port)) as client:
        try:
            print(*checkout(client, order, event, int(quantity)), sep="\n")
        except RefusedError as refused:
            print(refused, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
