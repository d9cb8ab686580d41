"""The co-generation diffusion transformer."""
