"""A client of Mezzenger, as its README describes it, for Python 2 and 3.

The ports are those of MEZZENGER_PORTS in the environment, "PUB,RECV", or Mezzenger's own.
"""
import hashlib
import os
import pickle
import threading
import time

import zmq

SUB_PORT, SEND_PORT = [int(port) for port in os.environ.get("MEZZENGER_PORTS", "7201,7202").split(",")]


class MezzengerException(Exception):
    pass


class Message(object):
    """What a callback gets: its members can also be asked for by their names."""

    def __init__(self, members):
        self.__dict__.update(members)

    def __getitem__(self, name):
        return getattr(self, name)


def frame(name, payload, ack=0, protocol=2, **members):
    """A message as it is sent."""
    timestamp = time.time()
    text = "%s%s%s" % (name, payload, timestamp)
    checksum = hashlib.md5(text.encode("utf-8", "replace")).hexdigest()
    message = {"name": name, "payload": payload, "ack": ack, "timestamp": timestamp, "checksum": checksum}
    message.update(members)
    return name.encode("utf-8") + b"|" + pickle.dumps(message, protocol)


def parse(received):
    return Message(pickle.loads(received.split(b"|", 1)[1]))


class Mezzenger(threading.Thread):
    def __init__(self, server_address="127.0.0.1", send_port=SEND_PORT, sub_port=SUB_PORT, send_timeout=2,
                 connection_retries=5, auto_start=True, verbose=False):
        threading.Thread.__init__(self)
        self.context = zmq.Context()
        self.send_address = "tcp://%s:%s" % (server_address, send_port)
        self.send_timeout = send_timeout * 1000
        self.connection_retries = connection_retries
        self.sender = None
        self.subscriber = self.context.socket(zmq.SUB)
        self.subscriber.connect("tcp://%s:%s" % (server_address, sub_port))
        self.callbacks = {}
        self.ended = threading.Event()
        if self.send(frame("ping", "ping")) != b"OK":
            raise MezzengerException("there is no server")
        if auto_start:
            self.start()

    def send(self, message):
        """Sends a frame, and returns its answer; every retry has a socket of its own."""
        for _ in range(1 + self.connection_retries):
            if self.sender is None:
                self.sender = self.context.socket(zmq.REQ)
                self.sender.setsockopt(zmq.LINGER, 0)
                self.sender.connect(self.send_address)
            self.sender.send(message)
            if self.sender.poll(self.send_timeout):
                return self.sender.recv()
            self.sender.close()
            self.sender = None
        raise MezzengerException("there is no answer")

    def send_message(self, msg_name, payload, ack=0):
        self.send(frame(msg_name, payload, ack))

    def subscribe(self, msg_name, callback):
        if msg_name not in self.callbacks:
            self.subscriber.setsockopt(zmq.SUBSCRIBE, msg_name.encode("utf-8"))
        self.callbacks[msg_name] = callback

    def unsubscribe(self, msg_name):
        self.subscriber.setsockopt(zmq.UNSUBSCRIBE, msg_name.encode("utf-8"))
        del self.callbacks[msg_name]

    def run(self):
        while not self.ended.is_set():
            if not self.subscriber.poll(100):
                continue
            message = parse(self.subscriber.recv())
            if message.name in self.callbacks:
                self.callbacks[message.name](message.payload, message)
                if message.ack > 0:
                    self.send(frame("ack", message.checksum))

    def stop(self):
        self.ended.set()
