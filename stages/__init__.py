"""The thirteen stages: pure per-row work. Nothing here knows Ray, a bucket or a clock."""
