"""Runs the tests and the example clients of dsmq 1.4.1 against this dsmq: websocket_clients.py DSMQ.

The package's own server is replaced where its tests start it, and must have ended with 0 behind
each of them. Prints what the example clients print, the putter's lines first.
"""

import contextlib
import io
import subprocess
import sys
import threading
import time
import traceback

from dsmq import example_get_client, example_put_client
from dsmq.client import connect
from dsmq.tests import integration_test

DSMQ = sys.argv[1]
PUTS, GETS = 5, 7
PATIENCE = 60


class Server:
    """dsmq, as the tests start theirs."""

    started = []

    def __init__(self, port):
        flags = ["--port", str(port), "--allow-shutdown", "--log", "error"]
        self.process = subprocess.Popen([DSMQ, *flags], stdout=subprocess.PIPE, text=True)
        Server.started.append(self)
        line = self.process.stdout.readline()
        assert line.startswith("dsmq listening on 127.0.0.1:"), line
        self.port = int(line.split(":")[1].split(" ")[0])

    def end(self):
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()


class Process:
    """A server, or a thread in place of a process, which would not know the port."""

    def __init__(self, target, args):
        self.is_server = target is integration_test.serve
        self.thread = threading.Thread(target=target, args=args, daemon=True)

    def start(self):
        if self.is_server:
            integration_test.port = Server(0).port
        else:
            self.thread.start()

    def join(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def kill(self):
        pass


def own_tests():
    """Their tests, by name, and how each ended."""
    integration_test.mp.Process = Process
    # They pause so long for a put to arrive; a busy machine may take longer.
    integration_test._pause = 0.5
    for name, test in vars(integration_test).items():
        if not name.startswith("test_"):
            continue
        Server.started.clear()
        try:
            test()
            for server in Server.started:
                code = server.end()
                assert code == 0, f"the server ended with {code}"
            print(name, "passed")
        except Exception:
            traceback.print_exc()
            print(name, "failed")
        finally:
            for server in Server.started:
                server.process.kill()


class Printed(threading.local):
    """Standard output, apart for each thread."""

    def __init__(self):
        self.text = io.StringIO()

    def write(self, text):
        self.text.write(text)

    def flush(self):
        pass


def examples():
    """The clients pause with time.sleep; here a pause ends when what it waits for has happened."""
    server = Server(0)
    getter_began, all_put = threading.Event(), threading.Event()
    printed, lines = Printed(), {}

    def pause(_seconds):
        if threading.current_thread().name == "getter":
            getter_began.set()
            assert all_put.wait(PATIENCE)

    def client(name, run, n_iter):
        run("127.0.0.1", server.port, n_iter)
        lines[name] = printed.text.getvalue()

    def start(name, run, n_iter):
        thread = threading.Thread(target=client, args=(name, run, n_iter), name=name)
        thread.start()
        return thread

    probe = connect(port=server.port)
    sleep, time.sleep, stdout, sys.stdout = time.sleep, pause, sys.stdout, printed
    try:
        getter = start("getter", example_get_client.run, GETS)
        assert getter_began.wait(PATIENCE)
        start("putter", example_put_client.run, PUTS).join(PATIENCE)
        seen, deadline = 0, time.monotonic() + PATIENCE
        while seen < PUTS:
            assert time.monotonic() < deadline, "the puts did not arrive"
            seen += probe.get("greetings") != ""
        all_put.set()
        getter.join(PATIENCE)
        probe.shutdown_server()
    finally:
        time.sleep, sys.stdout = sleep, stdout
    print(lines["putter"] + lines["getter"], end="")
    print("the server ended with", server.end())


own_tests()
examples()
