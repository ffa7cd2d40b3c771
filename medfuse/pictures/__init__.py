"""Two-dimensional work: pictures fused or enhanced without geometry."""
