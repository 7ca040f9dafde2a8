"""The split of one model's traffic between versions: plans, arms, guards and shadows."""
