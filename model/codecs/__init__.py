"""Pixels, text and sound to what the network reads, and back."""
