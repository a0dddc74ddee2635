"""Codec families, one file each, and the classic codecs that they are measured against."""
