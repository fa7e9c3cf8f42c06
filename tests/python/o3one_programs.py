"""Runs programs like those of O3one's document against dsmq on O3one's own ports, and prints what they
print: o3one_programs.py DSMQ.
"""

import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
PATIENCE = 60


def program(name):
    return [sys.executable, "-u", str(HERE / "o3one" / name)]


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main(subscribe):
    server = start([sys.argv[1], "--port", "0", "--o3one", "--log", "warn"])
    started = [server]
    try:
        for protocol in ["json", "o3one pub", "o3one sub", "o3one ws", "o3one page"]:
            line = server.stdout.readline()
            assert f"({protocol}" in line, line
        subscriber = start(subscribe)
        started.append(subscriber)
        # Nobody tells when a subscription has arrived: publish until the subscriber has something.
        deadline = time.monotonic() + PATIENCE
        while subscriber.poll() is None:
            assert time.monotonic() < deadline, "the subscriber was sent nothing"
            subprocess.run(program("publish.py"), check=True, timeout=PATIENCE)
        assert subscriber.wait() == 0
        print(subscriber.stdout.read(), end="")
        server.terminate()
        print("the server ended with", server.wait(PATIENCE))
    finally:
        for process in started:
            process.kill()


main(program("subscribe.py"))

