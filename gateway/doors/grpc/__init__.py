"""The services that the gateway offers over gRPC: inference, health, reflection and the model server's."""
