"""The model without a terminal: as plain text, and as JSON."""
