"""Subscribes as O3one's programs do: a SUB on the port that theirs call pub, by prefix. It ends with the first
message."""

from common import *

from o3mq.backend import zmq
from o3mq.config import PORT_PUB
from o3mq.pubsub import SubSocketType

subscriber = zmq.Context().socket(SubSocketType.SUB.value)
print("Waiting for message …")
subscriber.connect(f"tcp://localhost:{PORT_PUB}")
subscriber.setsockopt_string(SubSocketType.SUBSCRIBE.value, "o3")
print(subscriber.recv_string())
