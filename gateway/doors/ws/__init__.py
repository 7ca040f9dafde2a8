"""`/ws`: who may open a WebSocket, its session, and the messages on it."""
