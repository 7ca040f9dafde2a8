"""gRPC on trio: calls, their messages and statuses over HTTP/2; what they mean is in gateway/doors/grpc."""
