"""A dsmq of the tests' own, and raw connections to it."""

import json
import socket
import subprocess

PATIENCE = 60


class Server:
    """A running server; with a port it takes that one."""

    def __init__(self, command, port=0, flags=()):
        command = [command, "--port", str(port), "--log", "warn", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("dsmq listening on "), f"the server has ended: {line!r}"
        self.host, port = line.split()[3].split(":")
        self.port = int(port)
        self.url = f"http://{self.host}:{port}"

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def connect(self):
        return Connection(self.host, self.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Connection:
    """A raw connection that speaks JSON. Its session has begun."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), PATIENCE)
        self.unread = ""
        self.ask(action="ping")

    def send(self, **request):
        self.socket.sendall(json.dumps(request).encode())

    def ask(self, **request):
        self.send(**request)
        return self.receive()

    def put(self, topic, *messages):
        puts = [json.dumps({"action": "put", "topic": topic, "message": m}) for m in messages]
        self.socket.sendall("".join(puts).encode())
        self.ask(action="ping")

    def receive(self):
        while True:
            try:
                reply, end = json.JSONDecoder().raw_decode(self.unread)
                self.unread = self.unread[end:]
                return reply
            except ValueError:
                more = self.socket.recv(65536)
                assert more, f"the server has closed after {self.unread!r}"
                self.unread += more.decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
