"""Puts a greeting every second. Start `dsmq` first, and see it arrive with get.py.

python3 examples/put.py [--host HOST] [--port PORT] [--count N] [--interval SECONDS]
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

with socket.create_connection((args.host, args.port)) as s:
    for number in range(args.count):
        request = {"action": "put", "topic": "greetings", "message": f"Hello! {number}"}
        s.sendall(json.dumps(request).encode())
        print("client sent", json.dumps(request), flush=True)
        time.sleep(args.interval)
