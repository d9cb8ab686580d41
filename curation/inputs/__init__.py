"""Raw sources: listed, named by content, remembered."""
