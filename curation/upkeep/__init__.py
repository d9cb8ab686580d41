"""Looking after a root: explain, retry, verify, vacuum."""
