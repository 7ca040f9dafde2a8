"""Where the time of a gateway and its workers goes: samples of their stacks, as pictures and text."""
