"""Looks for a new greeting every second. Start `dsmq` first, this next, then put.py:
a client gets what is put after it connected.

python3 examples/get.py [--host HOST] [--port PORT] [--count N] [--interval SECONDS]
"""

import argparse
import json
import socket
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=30008)
parser.add_argument("--count", type=int, default=1000)
parser.add_argument("--interval", type=float, default=1.0)
args = parser.parse_args()


def receive(s):
    """Read one reply: a JSON object, however many pieces the network makes of it.

    This client asks one thing at a time, so there is never more than one reply to read.
    """
    data = b""
    while True:
        piece = s.recv(65536)
        if not piece:
            raise ConnectionError("the server closed the connection")
        data += piece
        if not piece.rstrip().endswith(b"}"):
            continue  # no object ends here: do not read a long one from its start each time
        try:
            return json.loads(data)
        except ValueError:
            pass  # not all of it has arrived


with socket.create_connection((args.host, args.port)) as s:
    for _ in range(args.count):
        s.sendall(json.dumps({"action": "get", "topic": "greetings"}).encode())
        print("client received", receive(s), flush=True)
        time.sleep(args.interval)
