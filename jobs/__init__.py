"""Command line, job entry points, recipes and the studio."""
