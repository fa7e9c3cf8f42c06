"""O3one's publications with pyzmq at both ends, against dsmq and against libzmq alone: pub_spam.py DSMQ [N].

- pub_spam: N publications by request and reply, one after the other, and a subscriber that counts them;
  beside a bare server of REP and PUB.
- throughput, as libzmq's remote_thr and local_thr have it: 4 N messages of 100 bytes from a PUB to a SUB; beside
  libzmq's proxy of XSUB and XPUB.

Each round measures both, one after the other.
"""

import multiprocessing
import subprocess
import sys
import time

import zmq

ROUNDS = 3
PATIENCE = 60
FRAME = "o3 " + "x" * 97


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


def proxy(ports):
    """The least that passes publications on."""
    context = zmq.Context()
    sockets = [context.socket(kind) for kind in (zmq.XPUB, zmq.XSUB)]
    for socket in sockets:
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
    ports.put([socket.bind_to_random_port("tcp://127.0.0.1") for socket in sockets])
    zmq.proxy(*sockets)


def count(port, ready, result):
    """Counts messages, and tells how many came, and in how many seconds."""
    subscriber = zmq.Context().socket(zmq.SUB)
    subscriber.set(zmq.RCVHWM, 0)
    subscriber.connect(f"tcp://127.0.0.1:{port}")
    subscriber.subscribe("o3")
    subscriber.recv_string()
    ready.set()
    counted, start = 0, time.perf_counter()
    while (text := subscriber.recv_string()) != "o3 stop":
        if text != "o3 ready?":
            start = start if counted else time.perf_counter()
            counted += 1
    result.put((counted, time.perf_counter() - start))


def measure(kind, subscribe, publish, message, times):
    """Messages a second, and how many of them were counted."""
    ready, result = multiprocessing.Event(), multiprocessing.Queue()
    counter = multiprocessing.Process(target=count, args=(subscribe, ready, result))
    counter.start()
    publisher = zmq.Context().socket(kind)
    publisher.set(zmq.SNDHWM, 0)
    publisher.connect(f"tcp://127.0.0.1:{publish}")

    def say(text):
        publisher.send_string(text)
        assert kind == zmq.PUB or publisher.recv_string() == "OK"

    while not ready.wait(0.01):
        say("o3 ready?")
    for _ in range(times):
        say(message)
    say("o3 stop")
    counted, seconds = result.get(timeout=PATIENCE)
    counter.join()
    return counted / seconds, counted


def against(server, *work):
    ports = multiprocessing.Queue()
    process = multiprocessing.Process(target=server, args=(ports,), daemon=True)
    process.start()
    try:
        subscribe, publish = ports.get(timeout=PATIENCE)
        return measure(work[0], subscribe, publish, *work[1:])
    finally:
        process.kill()


def against_dsmq(dsmq, *work):
    command = [dsmq, "--port", "0", "--o3one=0,0,0", "--log", "error"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        ports = {}
        for line in iter(server.stdout.readline, ""):
            _, _, _, address, protocol = line.strip().split(" ", 4)
            ports[protocol.strip("()")] = address.rpartition(":")[2]
            if "o3one sub" in ports:
                break
        return measure(work[0], ports["o3one pub"], ports["o3one sub"], *work[1:])
    finally:
        server.kill()


def main():
    dsmq, times = sys.argv[1], int((sys.argv[2:] or [50_000])[0])
    for name, server, *work in [
        ("pub_spam", bare, zmq.REQ, "o3 spam", times),
        ("throughput", proxy, zmq.PUB, FRAME, 4 * times),
    ]:
        for _ in range(ROUNDS):
            theirs, ours = against(server, *work), against_dsmq(dsmq, *work)
            print(f"{name}: libzmq {theirs[0]:,.0f}/s, {theirs[1]:,} counted;", end=" ")
            print(f"dsmq {ours[0]:,.0f}/s, {ours[1]:,} counted: {ours[0] / theirs[0]:.2f} x")


if __name__ == "__main__":
    main()
