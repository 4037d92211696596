"""Kind `webhook`: sends an event to where the operator allows, signed."""
