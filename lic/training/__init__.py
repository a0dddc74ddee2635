"""Training: one loop for all families, recipes, export."""
