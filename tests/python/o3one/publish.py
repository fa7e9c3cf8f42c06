"""Publishes as O3one's programs do: a REQ on the port that theirs call sub, one text of topic, message and
priority. It ends without reading the answer."""

from common import *

from o3mq.backend import zmq
from o3mq.config import PORT_SUB
from o3mq.pubsub import SubSocketType

publisher = zmq.Context().socket(SubSocketType.REQ.value)
publisher.connect(f"tcp://localhost:{PORT_SUB}")
publisher.send_string(" ".join(["o3", "Hello", "5"]))
