"""What is told of the gateway: status, metrics, probes, events, and what the dashboard shows."""
