"""gRPC on trio: calls, their messages and statuses over HTTP/2; what they mean is their servers' to know."""
