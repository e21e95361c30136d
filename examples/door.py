"""A door: lets in whoever has a valid ticket, once. Each line of standard input is the id of a ticket or of a booking.

python door.py EVENT [PORT [HOST]]
"""

import sys
import time
import uuid

from ticketctl import CannotConnectError, Client, OutcomeUnknownError, RefusedError


def let_in(client: Client, event: str, scanned: str) -> int:
    """Return how many people may come in now. Raises RefusedError: nobody may."""
    # Sent again with the same id, a scan lets in the same people and nobody else.
    scan = str(uuid.uuid4())
    while True:
        try:
            reply = client.redeem(scanned, event=event, scan=scan)
        except (OutcomeUnknownError, CannotConnectError):
            time.sleep(0.5)
        else:
            # A ticket is one person; of a booking, the reply names the tickets that this scan let in.
            return len(getattr(reply, "admitted", [scanned]))


def main(event: str, port: str = "8080", host: str = "127.0.0.1") -> None:
    """Give a verdict on each line."""
    with Client(host, int(port)) as client:
        for line in sys.stdin:
            scanned = line.strip()
            try:
                print(f"{scanned}: let in {let_in(client, event, scanned)}", flush=True)
            except RefusedError as refused:
                print(f"{scanned}: {refused.code}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
