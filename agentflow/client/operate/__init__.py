"""Operating the system: cancel, retry, dead letters, pauses, drains, why, jobs, withdraw."""
