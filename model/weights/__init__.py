"""Weights on disk, and the names they go by."""
