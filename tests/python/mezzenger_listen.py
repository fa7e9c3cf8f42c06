"""Prints greetings as Mezzenger's programs do, until it is ended."""

import mezzenger_client

mezzenger_client.Mezzenger(server_address="127.0.0.1").subscribe(
    "greetings", lambda payload, message: print(payload)
)
