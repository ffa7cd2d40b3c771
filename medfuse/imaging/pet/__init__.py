"""Units of PET: SUV, nuclides, sidecars."""
