"""What the gateway tells Prometheus: what is counted as requests end, and what is made of it when asked."""
