"""The co-generation DiT: network, codecs, losses, data reader, trainer and sampler."""
