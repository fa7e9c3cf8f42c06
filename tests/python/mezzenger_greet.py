"""Publishes greetings as Mezzenger's programs do, until it is ended."""

import itertools
import time

import mezzenger_client

sender = mezzenger_client.Mezzenger(server_address="127.0.0.1", auto_start=False)
for name in itertools.cycle(["John", "David", "Lucy"]):
    sender.send_message("greetings", f"Hello {name}!")
    time.sleep(3)
