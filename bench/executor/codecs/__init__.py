"""One connection to a server in each protocol, without a socket: bytes in, answers and bytes out. Pure."""
