"""One case, from its files to its result folder."""
