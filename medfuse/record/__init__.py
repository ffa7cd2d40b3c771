"""What was done, to what, with what, and what may be told of it."""
