"""Predictions over REST: what is sent as rows, and what is answered of them, which other doors use too."""
