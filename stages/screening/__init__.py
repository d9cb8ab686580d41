"""Which clips are worth more work: people and hands, picture, sound."""
