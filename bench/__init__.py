"""Measures Pipeline from outside: real processes, real sockets, and a bound beside every figure."""
