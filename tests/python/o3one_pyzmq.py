"""libzmq's sockets against dsmq: o3one_pyzmq.py DSMQ. Prints what they were sent."""

import resource
import subprocess
import sys
import threading

import zmq

DSMQ = sys.argv[1]
PATIENCE_MS = 60_000

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
context = zmq.Context(io_threads=2)
context.set(zmq.MAX_SOCKETS, 2_000)


class Server:
    def __init__(self):
        command = [DSMQ, "--port", "0", "--o3one=0,0,0", "--log", "warn"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.ports = {}
        for _ in range(4):
            words = self.process.stdout.readline().strip().split(" ", 4)
            self.ports[words[4].strip("()")] = words[3]

    def connect(self, kind, port, **options):
        socket = context.socket(kind)
        for name, value in {"RCVTIMEO": PATIENCE_MS, "LINGER": 0, **options}.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect("tcp://" + self.ports[port])
        return socket

    def publisher(self, **options):
        return self.connect(zmq.REQ, "o3one sub", **options)

    def subscriber(self, *prefixes, **options):
        """One that is known to be subscribed: something was sent to it, and read up to its end."""
        socket = self.connect(zmq.SUB, "o3one pub", **options)
        for prefix in prefixes:
            socket.subscribe(prefix)
        return socket


def publish(publisher, *texts):
    for text in texts:
        publisher.send_string(text)
        assert publisher.recv_string() == "OK"


def settle(publisher, subscribers, topic="o3"):
    """Publishes until every subscriber was sent something, then one that all read up to."""
    silent = list(subscribers)
    while silent:
        publish(publisher, topic + " settle")
        silent = [s for s in silent if not s.poll(10)]
    publish(publisher, topic + " settled")
    for subscriber in subscribers:
        while subscriber.recv_string() != topic + " settled":
            pass


def heartbeats(server):
    options = {"HEARTBEAT_IVL": 20, "HEARTBEAT_TIMEOUT": 2_000, "HEARTBEAT_TTL": 2_000}
    publisher, subscriber = server.publisher(**options), server.subscriber("o3", **options)
    monitor = subscriber.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    settle(publisher, [subscriber])
    for number in range(3):
        # Time in which nothing but heartbeats passes.
        assert not monitor.poll(100), "it was disconnected"
        publish(publisher, f"o3 {number}")
        assert subscriber.recv_string() == f"o3 {number}"
    subscriber.disable_monitor()
    print("heartbeats: 3 publications between them")


def every_socket(server):
    subscriber = server.subscriber("o3")
    settle(server.publisher(), [subscriber])
    seen = []
    for name in ["REQ", "DEALER", "PUSH", "PUB"]:
        publisher = server.connect(getattr(zmq, name), "o3one sub")
        # What a PUB sends before it was subscribed to goes nowhere.
        while not seen or seen[-1] != name:
            publisher.send_string("o3 " + name)
            if name in ["REQ", "DEALER"]:
                assert publisher.recv_string() == "OK"
            if subscriber.poll(1_000 if name != "PUB" else 10):
                seen.append(subscriber.recv_string().split()[1])
    print("every socket:", *dict.fromkeys(seen))


def prefixes(server):
    publisher, subscriber = server.publisher(), server.subscriber("o3", "o3 ")
    settle(publisher, [subscriber])
    subscriber.unsubscribe("o3")
    # A subscription on the same way is behind the other; what tells of it comes after both.
    subscriber.subscribe("end")
    settle_topic = server.subscriber("end")
    settle(publisher, [subscriber, settle_topic], "end")
    publish(publisher, "o3x 1", "o3 1", "end end")
    first = subscriber.recv_string()
    assert subscriber.recv_string() == "end end"
    subscriber.subscribe("o3x")
    subscriber.subscribe("end2")
    settle(publisher, [subscriber], "end2")
    publish(publisher, "o3x 2")
    print(f"prefixes: {first}, {subscriber.recv_string()}")


def spam(server):
    publisher, subscriber = server.publisher(), server.subscriber("o3")
    settle(publisher, [subscriber])
    counted = []

    def count():
        while subscriber.recv_string() != "o3 stop":
            counted.append(1)
        counted.append(1)

    counter = threading.Thread(target=count)
    counter.start()
    publish(publisher, *["o3 spam"] * 5_000, "o3 stop")
    counter.join(PATIENCE_MS / 1_000)
    print(f"spam: {len(counted)} of 5001")


def many_subscribers(server):
    publisher = server.publisher()
    readers = [server.subscriber("o3", RCVHWM=0) for _ in range(500)]
    # They are sent much and take 1 message.
    silent = [server.subscriber("o3", RCVHWM=1, RCVBUF=4_096) for _ in range(500)]
    settle(publisher, readers)
    content = "x" * 1_000
    publish(publisher, *(f"o3 {number} {content}" for number in range(2_000)))
    whole = 0
    for reader in readers:
        numbers = [int(reader.recv_string().split()[1]) for _ in range(2_000)]
        whole += numbers == list(range(2_000))
    print(f"1000 subscribers: {whole} of {len(readers)} have all of 2000")
    for socket in readers + silent:
        socket.close()


server = Server()
try:
    for check in [heartbeats, every_socket, prefixes, spam, many_subscribers]:
        check(server)
    server.process.terminate()
    print("the server ended with", server.process.wait(PATIENCE_MS / 1_000))
finally:
    server.process.kill()
    context.destroy(linger=0)
