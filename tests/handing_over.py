"""Hands descriptors over to a program as systemd does that: ``python handing_over.py 7,9 PROGRAM [ARGUMENT ...]``."""

import fcntl
import os
import sys

FIRST = 3

if __name__ == "__main__":
    descriptors = [int(each) for each in sys.argv[1].split(",")]
    # First out of the way of each other, and then to where they belong.
    away = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 100) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for number, each in enumerate(away):
        os.dup2(each, FIRST + number)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(descriptors))}
    os.execv(sys.argv[2], sys.argv[2:])
