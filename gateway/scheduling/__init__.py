"""From an admitted request to its answer: queues, batches, and whom they go to."""
