"""Which versions there are, who holds them, and how the fleet is moved from one to the next."""
