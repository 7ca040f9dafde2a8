"""The autoscaler: how many workers the traffic needs. What decides is pure; the rest is its edge."""
