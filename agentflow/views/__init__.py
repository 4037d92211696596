"""What is shown of a task: one row, every mapper to and from it, and what else people are told."""
