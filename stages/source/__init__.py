"""From raw objects to clips: what a file holds, its shots, one 25 fps clock. Hostile bytes stay in child processes."""
