"""The ports that O3one has by default."""

PORT_PUB = 5555
PORT_SUB = 5556
