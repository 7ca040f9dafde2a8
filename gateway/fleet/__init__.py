"""Which workers there are, how they are found and asked, and how each lives."""
