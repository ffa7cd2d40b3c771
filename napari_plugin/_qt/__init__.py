"""Widgets of the panel; they ask and show, the model decides."""
