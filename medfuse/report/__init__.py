"""Pages for readers: one case, one study."""
