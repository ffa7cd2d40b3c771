"""NIfTI files to volumes."""
