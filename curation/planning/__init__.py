"""What a run would do and cost, and the checks made before it."""
