#!/usr/bin/env bash
# wait.sh URL SECONDS PYTHON: wait until the URL answers. Exit status 1 if it does not within that time.
exec "$3" - "$1" "$2" << 'PYTHON'
import sys
import time
import urllib.request

address, seconds = sys.argv[1], float(sys.argv[2])
end = time.monotonic() + seconds
while True:
    try:
        urllib.request.urlopen(address, timeout=5)
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"Error: {address} does not answer after {seconds:g} s: {error}")
        time.sleep(0.5)
PYTHON
