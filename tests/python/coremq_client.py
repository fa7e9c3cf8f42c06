"""A client of CoreMQ as its programs have it: it blocks, and reads 10 bytes first, in which the header
must be whole. With a host and a port it acts several clients' parts and says what it saw.

    m = MessageQueue("127.0.0.1")
    m.connect()
    m.subscribe("test")
    m.send_message(queue="test", message={"a": 1})
    m.get_message()
"""

import json
import socket
import sys
import threading

HEADER = 10


class Bye(Exception):
    """The server has said that it stops."""


class MessageQueue:
    def __init__(self, host="127.0.0.1", port=6747):
        self.address = (host, port)
        self.queues = []
        self.pushed = []

    def connect(self):
        self.socket = socket.create_connection(self.address, timeout=60)
        self.id, welcome = self.read()
        self.welcome_message = welcome["response"]
        if self.queues:
            self.command(coremq_subscribe=self.queues)

    def read(self):
        """The next frame: its queue and its object."""
        first = self.socket.recv(HEADER)
        if not first:
            raise ConnectionError("closed")
        head, space, text = first.partition(b" ")
        if not space:
            raise ValueError(f"no header in {first!r}")
        assert head[:1] == b"+", first
        length = int(head[1:])
        # Characters are counted, and they come as bytes.
        while (missing := length - len(text.decode(errors="ignore"))) > 0:
            more = self.socket.recv(missing)
            if not more:
                raise ConnectionError("closed inside a frame")
            text += more
        text = text.decode()
        assert len(text) == length, (length, text)
        queue, _, message = text.partition(" ")
        message = json.loads(message)
        if isinstance(message, dict) and message.get("response") == "BYE":
            raise Bye
        return queue, message

    def write(self, queue, message):
        if isinstance(message, str):
            message = {"coremq_string": message}
        text = f"{queue} {json.dumps(message)}"
        self.socket.sendall(f"+{len(text)} {text}".encode())

    def answer(self):
        """The next response; messages that come before it are kept."""
        while True:
            queue, message = self.read()
            if queue == self.id and ("response" in message or "history" in message or "master" in message):
                return message
            self.pushed.append((queue, message))

    def command(self, **command):
        self.write(self.id, command)
        return self.answer()

    def subscribe(self, *queues):
        self.queues += queues
        return self.command(coremq_subscribe=list(queues))

    def send_message(self, queue, message):
        self.write(queue, message)
        return self.answer()

    def get_message(self):
        return self.pushed.pop(0) if self.pushed else self.read()

    def close(self):
        self.socket.close()


def ok(answer, text):
    assert answer == {"response": f"OK: {text}"}, answer


def talk(connect):
    a, b = connect(), connect()
    assert a.welcome_message.startswith("OK: Welcome"), a.welcome_message
    ok(a.subscribe("test", "größe"), "Subscribe successful")
    ok(b.command(coremq_subscribe="test"), "Subscribe successful")
    ok(b.command(coremq_options={"x": 1, "y": None}), "Options set")
    for queue, message in [("test", {"a": 1}), ("größe", {"text": "größe 😀"}), ("test", "text")]:
        ok(b.send_message(queue, message), "Message sent")
        got, passed_on = a.get_message()
        wanted = message if isinstance(message, dict) else {"coremq_string": message}
        assert got == queue and passed_on.items() >= wanted.items(), passed_on
        assert passed_on["coremq_sender"] == b.id and isinstance(passed_on["coremq_sent"], float)
    ok(b.send_message("test", [1, 2]), "Message sent")
    assert a.get_message() == ("test", [1, 2])
    ok(b.send_message(a.id, {"to": "a"}), "Message sent")
    assert a.get_message()[1]["to"] == "a"
    for number in range(12):
        ok(b.send_message("many", {"number": number}), "Message sent")
    history = b.command(coremq_gethistory=["many", "none"])["history"]
    assert [message["number"] for message in history["many"]] == list(range(2, 12))
    assert list(history) == ["many"]
    status = b.command(coremq_status=True)
    assert (status["coremq_fwdto"], status["connections"]) == (b.id, 2), status
    refused = b.command(coremq_replicant="other")
    assert refused == {"response": "ERROR: Not allowed to be a replicant"}, refused
    ok(b.command(coremq_unsubscribe=["test"]), "Unsubscribe successful")
    # Whoever loses its connection subscribes again.
    a.close()
    a.connect()
    ok(b.send_message("test", {"again": True}), "Message sent")
    assert a.get_message()[1]["again"] is True
    return a, b


def burst(connect, count):
    """A thread that reads gets all that another sends without waiting for a response."""
    reader, sender = connect(), connect()
    reader.subscribe("burst")
    seen = []

    def read():
        for _ in range(count):
            seen.append(reader.get_message()[1]["number"])

    reading = threading.Thread(target=read)
    reading.start()
    answers = threading.Thread(target=lambda: [ok(sender.answer(), "Message sent") for _ in range(count)])
    answers.start()
    for number in range(count):
        sender.write("burst", {"number": number})
    reading.join()
    answers.join()
    assert seen == list(range(count))


def main(host, port, count):
    def connect():
        client = MessageQueue(host, int(port))
        client.connect()
        return client

    clients = talk(connect)
    burst(connect, int(count))
    print("all is well", flush=True)
    for client in clients:
        try:
            while True:
                client.get_message()
        except Bye:
            print("bye", flush=True)
            client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
