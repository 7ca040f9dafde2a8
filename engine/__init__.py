"""The engine: what loads models and runs rows through them, without a network."""
