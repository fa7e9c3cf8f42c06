# Prints the next greeting: python3 examples/zmq/subscribe.py [PORT]   (pip install pyzmq)
import sys

import zmq

port = sys.argv[1] if len(sys.argv) > 1 else 30008
socket = zmq.Context().socket(zmq.SUB)
socket.connect(f"tcp://127.0.0.1:{port}")
socket.subscribe("greetings ")
print(socket.recv_string())
