"""What is noticed of requests and of the gateway itself, for people and for what watches."""
