"""Runs the programs of O3one's document against dsmq on O3one's own ports: o3one_programs.py DSMQ JARS.

JARS is a folder with jeromq's. Prints what the programs print.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

DSMQ, JARS = sys.argv[1:]
HERE = pathlib.Path(__file__).parent
PATIENCE = 60


def program(name):
    return [sys.executable, "-u", str(HERE / "o3one" / name)]


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main(classes):
    java = HERE.parent / "java" / "Subscribe.java"
    subprocess.run(["javac", "-cp", f"{JARS}/*", "-d", classes, java], check=True)
    server = start([DSMQ, "--port", "0", "--o3one", "--log", "warn"])
    started = [server]
    try:
        for line in ["json", "o3one pub", "o3one sub", "o3one ws", "o3one page"]:
            printed = server.stdout.readline()
            assert f"({line}" in printed, printed
        subscribers = {
            "python": start(program("subscribe.py")),
            "java": start(["java", "-cp", f"{JARS}/*:{classes}", "Subscribe"]),
        }
        started += subscribers.values()
        # Nobody tells when a subscription has arrived: publish until all have something.
        deadline = time.monotonic() + PATIENCE
        while any(process.poll() is None for process in subscribers.values()):
            assert time.monotonic() < deadline, "a subscriber was sent nothing"
            subprocess.run(program("publish.py"), check=True, timeout=PATIENCE)
        for name, process in subscribers.items():
            assert process.wait() == 0
            for line in process.stdout:
                print(f"{name}: {line}", end="")
        server.terminate()
        print("the server ended with", server.wait(PATIENCE))
    finally:
        for process in started:
            process.kill()


with tempfile.TemporaryDirectory() as folder:
    main(folder)
