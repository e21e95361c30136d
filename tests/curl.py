"""Prints what a server answers over HTTP, as ``curl -s URL`` does."""

import sys
import urllib.request

if __name__ == "__main__":
    with urllib.request.urlopen(f"http://{sys.argv[-1]}", timeout=20) as answer:
        sys.stdout.write(answer.read().decode())
