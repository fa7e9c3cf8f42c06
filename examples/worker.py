"""A worker: takes jobs from the topic `jobs`, one at a time, works, and says when one is done.
Start `dsmq`, as many workers as you like, and give them something to do: dsmq put jobs 'wash up'

python3 examples/worker.py [--host HOST] [--port PORT] [--count N] [--work S] [--lease S]

Kill a worker while it works: when the lease of its job ends, another one does it.
"""

import argparse
import json
import socket
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=30008)
parser.add_argument("--count", type=int, default=1_000_000)
parser.add_argument("--work", type=float, default=1.0)
# Longer than any work takes: a job whose lease ends is given to another worker.
parser.add_argument("--lease", type=float, default=10.0)
args = parser.parse_args()


def ask(s, request):
    """Send a request and read its reply: a JSON object, in however many pieces it comes."""
    s.sendall(json.dumps(request).encode())
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


def take(s):
    """Wait for a job."""
    while True:
        job = ask(s, {"action": "take", "topic": "jobs", "lease": args.lease, "wait": 60})
        if "error" in job:
            raise RuntimeError(job["error"])
        if "empty" not in job:
            return job


with socket.create_connection((args.host, args.port)) as s:
    for _ in range(args.count):
        job = take(s)
        text = json.dumps(job["message"])
        print(f"worker took {text}, handed out {job['deliveries']} times", flush=True)
        time.sleep(args.work)
        ack = {"action": "ack", "topic": "jobs", "id": job["id"], "deliveries": job["deliveries"]}
        reply = ask(s, ack)
        if reply.get("code") == "gone":
            # The work took longer than the lease. What is not to be done twice has to be made
            # so that a second time does no harm: look whether it is done, then do it.
            print(f"worker was late for {text}", flush=True)
        elif "error" in reply:
            raise RuntimeError(reply["error"])
        else:
            print(f"worker did {text}", flush=True)
