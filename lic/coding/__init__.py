"""From symbols to bytes: fixed-point layers, integer tables, range coder."""
