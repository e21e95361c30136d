"""``python -m tests.nc -N HOST PORT``: what ``nc -N`` does, for machines without it."""

import shutil
import socket
import sys

with socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=10) as connection:
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR)
    with connection.makefile("rb") as replies:
        shutil.copyfileobj(replies, sys.stdout.buffer)
