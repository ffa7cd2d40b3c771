"""FIXED. Tensor mathematics alone: no files, no learned parameters, no medical words."""
