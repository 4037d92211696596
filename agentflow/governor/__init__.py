"""The governor: what keeps a fleet inside its limits and its budgets, on the bus."""
