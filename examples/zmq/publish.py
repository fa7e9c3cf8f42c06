# Publishes a greeting: python3 examples/zmq/publish.py [PORT]   (pip install pyzmq)
import sys

import zmq

port = sys.argv[1] if len(sys.argv) > 1 else 30008
socket = zmq.Context().socket(zmq.REQ)
socket.connect(f"tcp://127.0.0.1:{port}")
socket.send_string("greetings Hello from pyzmq!")
answer = socket.recv_string()
if answer != "OK":
    sys.exit(answer)
