"""REST for the workers: one to leave, and how many there should be."""
