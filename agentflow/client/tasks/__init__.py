"""Tasks of one's own: submit, wait, map, watch, look up."""
