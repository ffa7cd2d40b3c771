"""LEARNED. Everything that chooses weights (guides) or makes pixels by network."""
