"""O3one's pub_spam: publications by request and reply, one after the other, and a subscriber that
counts them, against dsmq and against a bare server of libzmq's REP and PUB: pub_spam.py DSMQ [N].

pyzmq is at both ends. Each round measures both, one after the other.
"""

import multiprocessing
import subprocess
import sys
import time

import zmq

ROUNDS = 3
PATIENCE = 60


def bare(ports):
    """The least that answers OK and publishes."""
    context = zmq.Context()
    publisher, replier = context.socket(zmq.PUB), context.socket(zmq.REP)
    publisher.set(zmq.SNDHWM, 0)
    ports.put([socket.bind_to_random_port("tcp://127.0.0.1") for socket in (publisher, replier)])
    while True:
        text = replier.recv_string()
        replier.send_string("OK")
        publisher.send_string(text)


def count(port, ready, result):
    subscriber = zmq.Context().socket(zmq.SUB)
    subscriber.set(zmq.RCVHWM, 0)
    subscriber.connect(f"tcp://127.0.0.1:{port}")
    subscriber.subscribe("o3")
    subscriber.recv_string()
    ready.set()
    counted = 0
    while (text := subscriber.recv_string()) != "o3 stop":
        counted += text == "o3 spam"
    result.put(counted)


def spam(subscribe, publish, times):
    """Publications a second, and how many of them were counted."""
    ready, result = multiprocessing.Event(), multiprocessing.Queue()
    counter = multiprocessing.Process(target=count, args=(subscribe, ready, result))
    counter.start()
    publisher = zmq.Context().socket(zmq.REQ)
    publisher.connect(f"tcp://127.0.0.1:{publish}")

    def say(text):
        publisher.send_string(text)
        assert publisher.recv_string() == "OK"

    while not ready.wait(0.01):
        say("o3 ready?")
    start = time.perf_counter()
    for _ in range(times):
        say("o3 spam")
    rate = times / (time.perf_counter() - start)
    say("o3 stop")
    counted = result.get(timeout=PATIENCE)
    counter.join()
    return rate, counted


def against_bare(times):
    ports = multiprocessing.Queue()
    server = multiprocessing.Process(target=bare, args=(ports,), daemon=True)
    server.start()
    try:
        return spam(*ports.get(timeout=PATIENCE), times)
    finally:
        server.kill()


def against_dsmq(dsmq, times):
    command = [dsmq, "--port", "0", "--o3one=0,0,0", "--log", "error"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        ports = {}
        for line in iter(server.stdout.readline, ""):
            _, _, _, address, protocol = line.strip().split(" ", 4)
            ports[protocol.strip("()")] = address.rpartition(":")[2]
            if "o3one sub" in ports:
                break
        return spam(ports["o3one pub"], ports["o3one sub"], times)
    finally:
        server.kill()


def main():
    dsmq, times = sys.argv[1], int((sys.argv[2:] or [50_000])[0])
    for _ in range(ROUNDS):
        theirs, ours = against_bare(times), against_dsmq(dsmq, times)
        print(f"bare libzmq {theirs[0]:,.0f}/s, {theirs[1]:,} counted;", end=" ")
        print(f"dsmq {ours[0]:,.0f}/s, {ours[1]:,} counted: {ours[0] / theirs[0]:.2f} x")


if __name__ == "__main__":
    main()
