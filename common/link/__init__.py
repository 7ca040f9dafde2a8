"""Links and surveys: the only package that imports pynng.

`gateway` is the gateway's half (trio), `worker` the worker's (blocking threads), `fake` both halves in
memory for tests. Foreign exceptions become ours in `nng`, and nowhere else.
"""
