"""The body over time, its grasp, and the structure stream drawn from it."""
