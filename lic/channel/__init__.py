"""Loss models for packet streams."""
