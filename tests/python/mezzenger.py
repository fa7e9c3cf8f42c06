"""Clients of Mezzenger against a running server: python mezzenger.py PUB RECV MAIN TASK [N].

Ends with an error if anything is not as it must be.
"""
import base64
import datetime
import json
import os
import pickle
import socket
import subprocess
import sys

import zmq

from mezzenger_client import frame, parse

PATIENCE_MS = 60000
CONTEXT = zmq.Context()


class Requests(object):
    """A socket that sends frames, and knows their answers."""

    def __init__(self, port, kind=zmq.REQ):
        self.socket = CONTEXT.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect("tcp://127.0.0.1:%s" % port)

    def ask(self, *parts):
        self.socket.send_multipart(parts)
        assert self.socket.poll(PATIENCE_MS), "no answer to %r" % (parts,)
        return self.socket.recv()

    def send(self, message):
        answer = self.ask(message)
        assert answer == b"OK", answer
        return message


class Subscriber(object):
    def __init__(self, port, *prefixes):
        self.socket = CONTEXT.socket(zmq.SUB)
        # It waits for none, however many are sent before it reads.
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect("tcp://127.0.0.1:%s" % port)
        for prefix in prefixes:
            self.socket.setsockopt(zmq.SUBSCRIBE, prefix)

    def wait_until_heard(self, requests, name):
        """Sends messages of this name until one arrives: from then on none is missed."""
        number = 0
        while not self.socket.poll(50):
            number += 1
            requests.send(frame(name, number))
        while parse(self.next()).payload < number:
            pass

    def next(self):
        assert self.socket.poll(PATIENCE_MS), "nothing is published"
        return self.socket.recv()


class Main(object):
    """The server's own protocol."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.decoder = json.JSONDecoder()
        self.text = ""

    def send(self, **request):
        self.socket.sendall(json.dumps(request).encode())

    def ask(self, **request):
        self.send(**request)
        while True:
            try:
                reply, end = self.decoder.raw_decode(self.text)
                self.text = self.text[end:].lstrip()
                return reply
            except ValueError:
                more = self.socket.recv(65536)
                assert more, "the server has closed the connection"
                self.text += more.decode("utf-8")

    def kept(self):
        topics = {topic["topic"]: topic for topic in self.ask(action="topics")["topics"]}
        return topics.get("mezzenger.unacked", {}).get("length", 0)


class Touch(object):
    """Whoever runs its pickle makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (subprocess.call, (["touch", self.path],))


def talk(pub, recv, main):
    """Messages to subscribers, and between protocols."""
    requests, main = Requests(recv), Main(main)
    assert requests.ask(frame("ping", "ping")) == b"OK"
    subscriber = Subscriber(pub, b"greet")
    subscriber.wait_until_heard(requests, "greet")
    assert main.ask(action="ping") == {"ok": True}

    plain = [u"Hello John!", u"\u20ac", 7, 2 ** 70, -1.5, None, True, [1, [2]], (1, (2, 3)), {u"a": {u"b": ()}}]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for payload in plain:
            sent = requests.send(frame("greetings", payload, protocol=protocol))
            requests.send(frame("other", payload, protocol=protocol))
            assert subscriber.next() == sent, (protocol, payload)
            seen = main.ask(action="get", topic="greetings")
            assert seen == {"message": json.loads(json.dumps(payload))}, (protocol, payload, seen)

    # What has no JSON is the sender's own for Mezzenger, and the whole pickle for the others.
    for payload in [{1, 2}, datetime.date(2026, 1, 2), b"\xff", {1: 2}, float("inf")]:
        sent = requests.send(frame("greetings", payload, protocol=4))
        assert subscriber.next() == sent
        seen = main.ask(action="get", topic="greetings")["message"]
        assert base64.b64decode(seen["$pickle"]) == sent.split(b"|", 1)[1]

    # Nothing in a pickle is run.
    path = os.path.join(os.environ["MEZZENGER_FOLDER"], "made-by-a-pickle")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        sent = requests.send(frame("greetings", Touch(path), protocol=protocol))
        assert subscriber.next() == sent
    assert not os.path.exists(path)

    # What others put is a pickle of protocol 2.
    values = [u"text", u"\u20ac", 1, 2 ** 70, 1.5, None, [True, False], {u"a": [u"b", {}]}]
    for value in values:
        main.send(action="put", topic="greetings", message=value)
        received = subscriber.next()
        assert received.startswith(b"greetings|\x80\x02"), received
        message = parse(received)
        assert (message.name, message.payload, message.ack) == ("greetings", value, 0)
        assert abs(message.timestamp) > 1e9 and len(message.checksum) == 32

    # What cannot be read is answered, and the next is served.
    for wrong in [b"", b"no bar", b"a|", b"a|nonsense", b"a|" + pickle.dumps([1]),
                  b"b|" + frame("a", 1).split(b"|", 1)[1], b"a|" + b"]" * 100000 + b"a" * 99999 + b"."]:
        answer = requests.ask(wrong)
        assert answer.startswith(b"ERROR: "), (wrong[:20], answer)
        assert requests.ask(frame("ping", "ping")) == b"OK"

    # A checksum that is missing is added.
    message = {"name": "greetings", "payload": u"x", "ack": 0, "timestamp": 1.5}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        requests.send(b"greetings|" + pickle.dumps(message, protocol))
        assert len(parse(subscriber.next()).checksum) == 32
    subscriber.socket.setsockopt(zmq.UNSUBSCRIBE, b"greet")


def acknowledge(pub, recv, main):
    """One that is acknowledged is kept until then, and comes again until then."""
    requests, main = Requests(recv), Main(main)
    first, second = Subscriber(pub, b"job"), Subscriber(pub, b"job")
    for subscriber in (first, second):
        subscriber.wait_until_heard(requests, "jobs")
    while second.socket.poll(0):
        second.next()
    while first.socket.poll(0):
        first.next()
    sent = requests.send(frame("job", (1, 2), ack=1))
    assert main.kept() == 1
    # At first, and three times more, to both.
    for _ in range(4):
        assert first.next() == second.next() == sent
    requests.send(frame("ack", parse(sent).checksum))
    assert main.kept() == 0
    # A second ack, and one of nothing, do no harm.
    requests.send(frame("ack", parse(sent).checksum))
    requests.send(frame("ack", "no such checksum"))
    # Sent twice, it is kept once.
    again = frame("job", "twice", ack=1)
    requests.send(again)
    requests.send(again)
    assert main.kept() == 1
    requests.send(frame("ack", parse(again).checksum))
    assert main.kept() == 0
    assert main.ask(action="history", topic="job")["messages"][0]["message"] == [1, 2]


def keep(_pub, recv, main, count):
    """So many messages that nobody acknowledges."""
    requests = Requests(recv, zmq.DEALER)
    for number in range(count):
        requests.socket.send_multipart([b"", frame("kept", number, ack=1)])
    for number in range(count):
        assert requests.socket.poll(PATIENCE_MS)
        answer = requests.socket.recv_multipart()
        assert answer == [b"", b"OK"], answer
    assert Main(main).kept() == count


def drain(pub, recv, main, count):
    """Acknowledges so many messages, which were sent before."""
    requests, main = Requests(recv), Main(main)
    subscriber = Subscriber(pub, b"kept")
    numbers = set()
    while len(numbers) < count:
        message = parse(subscriber.next())
        requests.send(frame("ack", message.checksum))
        numbers.add(message.payload)
    assert numbers == set(range(count))
    assert main.kept() == 0, main.kept()


if __name__ == "__main__":
    ports = [int(port) for port in sys.argv[1:4]]
    task = {"talk": talk, "acknowledge": acknowledge, "keep": keep, "drain": drain}[sys.argv[4]]
    task(*(ports + [int(count) for count in sys.argv[5:]]))
