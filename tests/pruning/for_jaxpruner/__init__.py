"""Files as users of jaxpruner write them; only the import differs."""
