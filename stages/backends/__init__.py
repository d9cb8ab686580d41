"""Swappable models behind small protocols; a recipe names the one to use."""
