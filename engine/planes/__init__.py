"""The worker's two planes: what of the engine talks to a gateway. Threads, no event loop."""
