"""Bodies of the messages, one module for each audience."""
