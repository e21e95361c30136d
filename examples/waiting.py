"""A checkout for an event that is sold out: wait in line, and sell when it is the buyer's turn.

python waiting.py EVENT QUANTITY [PORT [HOST [ORDER]]]

Give the number of an interrupted order to go on with it: the buyer keeps the place in line.
"""

import sys
import time
import uuid

from checkout import pay, settle

from ticketctl import Client, RefusedError

LOOK_SECONDS = 1


def wait(client: Client, order: str, event: str, quantity: int) -> None:
    """Return when the tickets are held, which may be at once, or when the buyer no longer waits."""
    # Sent again, ``wait`` gets the same reply, so ask ``show`` for the current state.
    settle(lambda: client.wait(event, quantity, seconds=600, booking=order))
    told = None
    while (booking := settle(lambda: client.show(order, kind="booking"))).state == "waiting":
        if booking.position != told:
            told = booking.position
            print(f"order {order} is number {told} in line", file=sys.stderr)
        time.sleep(LOOK_SECONDS)
    print(f"order {order} is {booking.state}", file=sys.stderr)


def checkout(client: Client, order: str, event: str, quantity: int) -> list[str]:
    """Wait for tickets of an event, sell them to one buyer, and return their ids. Raises RefusedError."""
    wait(client, order, event, quantity)
    # Here a shop writes to the buyer, who now has 600 seconds to pay.
    if not pay(order):
        settle(lambda: client.release(order))
        return []
    return list(settle(lambda: client.confirm(order, late=True)).tickets)


def main(event: str, quantity: str, port: str = "8080", host: str = "127.0.0.1", order: str = "") -> int:
    """Sell, and return the exit status."""
    order = order or str(uuid.uuid4())
    with Client(host, int(port)) as client:
        try:
            print(*checkout(client, order, event, int(quantity)), sep="\n")
        except RefusedError as refused:
            print(refused, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            again = f"python waiting.py {event} {quantity} {port} {host} {order}"
            print(f"order {order} keeps its place; to go on: {again}", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    if not 2 <= len(sys.argv[1:]) <= 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
