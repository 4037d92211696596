"""The parts of the task view: what is known of one task, and its texts. Pure."""
