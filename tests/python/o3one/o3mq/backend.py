"""Where the examples find ØMQ."""

import zmq
