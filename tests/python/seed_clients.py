"""Runs the example clients of dsmq 0.2.0 and prints what they print, the putter's lines first.

With a host and a port they talk to that server, without to the package's own, started here. The
clients pause with time.sleep; here a pause ends when what it waits for has happened.
"""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from dsmq import example_get_client, example_put_client

PUTS, GETS = 5, 7
PATIENCE = 30


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def own_server(port):
    code = f"from dsmq import dsmq; dsmq.run(host='127.0.0.1', port={port})"
    server = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True)
    while "Waiting" not in server.stdout.readline():
        assert server.poll() is None, "the package's own server has ended"
    threading.Thread(target=server.stdout.read, daemon=True).start()
    return server


def ask(connection, request):
    connection.sendall(json.dumps(request).encode())
    return json.loads(connection.recv(1024))["message"]


class Printed(threading.local):
    """Standard output, apart for each thread."""

    def __init__(self):
        self.text = io.StringIO()

    def write(self, text):
        self.text.write(text)

    def flush(self):
        pass


def run(host, port):
    seen = 0
    getter_began, all_put = threading.Event(), threading.Event()
    printed, lines = Printed(), {}

    put = 0

    def see(puts):
        """Gets until so many puts were seen: the package's server loses those that meet."""
        nonlocal seen
        deadline = time.monotonic() + PATIENCE
        while seen < puts:
            assert time.monotonic() < deadline, "the puts did not arrive"
            seen += ask(probe, {"action": "get", "topic": "greetings"}) != ""

    def pause(_seconds):
        nonlocal put
        if threading.current_thread().name == "getter":
            getter_began.set()
            assert all_put.wait(PATIENCE)
        else:
            see(put)
            put += 1

    def client(name, run, n_iter):
        with contextlib.suppress(BrokenPipeError):
            run(host, port, n_iter)
        lines[name] = printed.text.getvalue()

    def start(name, run, n_iter):
        thread = threading.Thread(target=client, args=(name, run, n_iter), name=name)
        thread.start()
        return thread

    sleep, time.sleep, stdout, sys.stdout = time.sleep, pause, sys.stdout, printed
    try:
        probe = socket.create_connection((host, port), PATIENCE)
        getter = start("getter", example_get_client.run, GETS)
        assert getter_began.wait(PATIENCE)
        # Connections are accepted in order: once a later one is served, the getter's has begun.
        with socket.create_connection((host, port), PATIENCE) as later:
            ask(later, {"action": "get", "topic": "none"})
        start("putter", example_put_client.run, PUTS).join(PATIENCE)
        see(PUTS)
        all_put.set()
        getter.join(PATIENCE)
    finally:
        time.sleep, sys.stdout = sleep, stdout
    print(lines["putter"] + lines["getter"], end="")


if len(sys.argv) == 3:
    run(sys.argv[1], int(sys.argv[2]))
else:
    port = free_port()
    server = own_server(port)
    try:
        run("127.0.0.1", port)
    finally:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
