"""What keeps a fleet within the limits of its accounts and within its budgets, on the bus."""
