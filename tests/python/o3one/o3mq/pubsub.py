"""ØMQ's numbers, as the examples name them."""

import enum

import zmq


class SubSocketType(enum.Enum):
    SUB = zmq.SUB
    REQ = zmq.REQ
    SUBSCRIBE = zmq.SUBSCRIBE
