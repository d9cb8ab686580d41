"""What a configuration costs: parameters, memory, FLOPs, seconds."""
