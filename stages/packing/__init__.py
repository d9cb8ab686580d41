"""What a clip becomes: prompt, latents, rows of shards."""
