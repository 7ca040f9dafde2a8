"""Rows that are files or text, decoded into a model's arrays: a module for each type."""
