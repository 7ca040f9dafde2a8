"""Runtimes: what executes a model format. One file per format, imported only when used."""
