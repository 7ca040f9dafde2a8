"""A model's arrays as the answers of each output type."""
