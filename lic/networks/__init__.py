"""Torch modules: transforms, context models, quantisers. No files, no bits, no pictures here."""
