"""What keeps a fleet within the limits of its accounts: rules/routes, carried out over the bus."""
