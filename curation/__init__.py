"""The engine: recipe, plan, worker, storage, ledger and reports. Knows Ray."""
