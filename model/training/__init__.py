"""The trainer: data, objective, steps, checkpoints."""
