"""Command line, job entry points, and recipes."""
