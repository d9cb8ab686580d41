"""Rows, facets, outcomes, manifests and errors: what every layer agrees on."""
