"""The network that finds the held product: made-up pictures, training, scores. See README.md."""
