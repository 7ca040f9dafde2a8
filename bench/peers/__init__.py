"""Other servers of models beside ours: the same programs, the same load, the same machine."""
