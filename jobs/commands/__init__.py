"""One module per command of ``handloom``."""
