"""The doors: each translates one protocol into predictions and rollouts, and errors into its own shape."""
