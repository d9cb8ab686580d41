"""An output root: its store, content-named files, tables, ledger and leases."""
