"""REST for models: their versions and settings, their weights on the way in, experiments between them."""
