"""The held product and the reference pictures: masks, the person without it, the product alone, do they belong together."""
