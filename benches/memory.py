#!/usr/bin/env python3
"""What dsmq keeps resident, and how fast it is with it: release binaries, or settings of one, side by side.

    cargo build --release
    benches/memory.py                                         # target/release/dsmq, everything
    benches/memory.py --only large,small
    benches/memory.py 'new=target/release/dsmq' 'old=../before/dsmq' 'two=MALLOC_ARENA_MAX=2 target/release/dsmq'

Every figure is of a server of its own, on loopback and a free port, which is ended afterwards. Of a row, "at once" is
VmRSS when the last reply is there, "at most" VmHWM until then, "idle" VmRSS after ten seconds in which nothing was
said, and the rows with "purge" the same of the purge. Throughput is `dsmq bench` of the first binary against each
server in turn, the median of some rounds: machines are noisy.
"""

import argparse
import json
import os
import resource
import shlex
import socket
import statistics
import subprocess
import threading
import time

HOST = "127.0.0.1"
MIB = 1 << 20
IDLE_SECONDS = 10
SILENT_CONNECTIONS = 5_000
BATCH_BYTES = 256 * 1024

# name: connections, messages over all of them, length of each message's text
WORKLOADS = {
    "large": (20, 20, 8 * MIB - 2),
    "small": (1, 1_000_000, 100),
    "small-shared": (50, 1_000_000, 100),
    "medium": (4, 100_000, 10_000),
    "gib-small": (4, 8_000_000, 100),
    "gib-large": (20, 120, 8 * MIB - 2),
}
THROUGHPUT = ["put", "put-confirmed", "get"]


class Server:
    def __init__(self, command):
        *settings, path = shlex.split(command)
        env = {**os.environ, **dict(setting.split("=", 1) for setting in settings)}
        args = [path, "--host", HOST, "--port", "0", "--log", "error"]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, env=env)
        line = self.process.stdout.readline().decode()
        if not line.startswith("dsmq listening on "):
            raise SystemExit(f"{command} does not start: {line!r}")
        self.port = int(line.split()[3].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def connect(self):
        return socket.create_connection((HOST, self.port))

    def status(self, field):
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise SystemExit("the server has ended")

    def resident(self):
        return self.status("VmRSS")

    def most_resident(self):
        """The most since the last call."""
        most = self.status("VmHWM")
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as clear:
            clear.write("5")
        return most


def ask(stream, request):
    """A reply is one JSON object; of those that are asked for here, all are short."""
    stream.sendall(json.dumps(request).encode())
    return reply(stream)


def reply(stream):
    text = b""
    while True:
        more = stream.recv(4096)
        if not more:
            raise SystemExit(f"the server has closed the connection behind {text!r}")
        text += more
        try:
            return json.loads(text)
        except ValueError:
            continue


def put(stream, count, size):
    """Puts without replies, and at the end a ping, which is answered when all are stored."""
    one = b'{"action":"put","topic":"t","message":"%s"}' % (b"x" * size)
    each = max(1, min(count, BATCH_BYTES // len(one)))
    batch = one * each
    for _ in range(count // each):
        stream.sendall(batch)
    stream.sendall(one * (count % each))
    if ask(stream, {"action": "ping"}) != {"ok": True}:
        raise SystemExit("a put failed")


def in_threads(work, arguments):
    threads = [threading.Thread(target=work, args=args) for args in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def after(server):
    at_once, at_most = server.resident(), server.most_resident()
    time.sleep(IDLE_SECONDS)
    return at_most, at_once, server.resident()


def workload(name, command):
    """The workload and then a purge; bytes before it, and behind each at most, at once and idle."""
    connections, count, size = WORKLOADS[name]
    with Server(command) as server:
        streams = [server.connect() for _ in range(connections)]
        for stream in streams:
            ask(stream, {"action": "ping"})
        before = server.resident()
        in_threads(put, [(stream, count // connections, size) for stream in streams])
        filled = after(server)
        purged = ask(streams[0], {"action": "purge", "topic": "t"})
        if purged != {"ok": True, "purged": count}:
            raise SystemExit(f"{purged} instead of {count} messages")
        return before, filled, after(server)


def report_workload(name, commands):
    connections, count, size = WORKLOADS[name]
    print(f"\n### {name}: {count:,} messages of {size:,} bytes by {connections} connections\n", flush=True)
    print("| | before | put: at most | at once | idle | a message | purge: at most | at once | idle |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for label, command in commands.items():
        before, put, purge = workload(name, command)
        sizes = " | ".join(f"{size / MIB:.0f}" for size in put)
        purge = " | ".join(f"{size / MIB:.0f}" for size in purge)
        each = (put[2] - before) / count
        print(f"| {label} | {before / MIB:.1f} | {sizes} | {each:,.0f} B | {purge} |", flush=True)


def silent(command):
    with Server(command) as server:
        before = server.resident()
        streams = [server.connect() for _ in range(SILENT_CONNECTIONS)]
        ask(server.connect(), {"action": "ping"})
        # A thread that was made late has its stack to touch.
        time.sleep(2)
        quiet = server.resident()
        exchange = b'{"action":"put","topic":"once","message":"%s"}{"action":"get","topic":"once"}' % (b"x" * 100)
        for stream in streams:
            stream.sendall(exchange)
            reply(stream)
        spoken, (_, _, idle) = server.resident(), after(server)
        for stream in streams:
            stream.close()
        time.sleep(IDLE_SECONDS)
        return before, quiet, spoken, idle, server.resident()


def report_silent(commands):
    print(f"\n### silent: {SILENT_CONNECTIONS:,} connections\n")
    print("| | before | silent | each has put and got | idle | all have gone |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for label, command in commands.items():
        print(f"| {label} | " + " | ".join(f"{size / MIB:.1f}" for size in silent(command)) + " |", flush=True)


def rates(client, command, work, connections, seconds):
    with Server(command) as server:
        args = [client, "bench", "--host", HOST, "--port", str(server.port), "--work", work, "--json"]
        args += ["--connections", str(connections), "--seconds", str(seconds)]
        return json.loads(subprocess.run(args, stdout=subprocess.PIPE, check=True).stdout)["rate"]


def report_throughput(commands, rounds, seconds):
    client = shlex.split(next(iter(commands.values())))[-1]
    print(f"\n### throughput: requests a second, median of {rounds} (and against the first, of the same round)\n")
    print("| | " + " | ".join(commands) + " |")
    print("| --- |" + " ---: |" * len(commands), flush=True)
    for work, connections in [(work, n) for work in THROUGHPUT for n in (1, 50)]:
        runs = [
            {label: rates(client, command, work, connections, seconds) for label, command in commands.items()}
            for _ in range(rounds)
        ]
        cells = []
        for label in commands:
            rate = statistics.median(run[label] for run in runs)
            ratio = statistics.median(run[label] / next(iter(run.values())) for run in runs)
            cells.append(f"{rate:,.0f} ({ratio:.2f})")
        print(f"| {work}, {connections} connections | " + " | ".join(cells) + " |", flush=True)


def main():
    names = [*WORKLOADS, "silent", "throughput"]
    parser = argparse.ArgumentParser(description="What dsmq keeps resident.")
    parser.add_argument("command", nargs="*", default=["dsmq=target/release/dsmq"], help="NAME=[VAR=VALUE]... PATH")
    parser.add_argument("--only", default=",".join(names), help="of " + ", ".join(names))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    args = parser.parse_args()
    commands = dict(command.split("=", 1) for command in args.command)
    wanted = args.only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"there is no {unknown[0]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(f"VmRSS and VmHWM in MiB; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start")
    for name in wanted:
        if name == "silent":
            report_silent(commands)
        elif name == "throughput":
            report_throughput(commands, args.rounds, args.seconds)
        else:
            report_workload(name, commands)


if __name__ == "__main__":
    main()
