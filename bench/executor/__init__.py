"""Sends a schedule's requests to a server, each at its time whatever came back, and measures."""
