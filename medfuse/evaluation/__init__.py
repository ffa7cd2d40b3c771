"""Methods judged on pictures: metrics, pairs, tables."""
