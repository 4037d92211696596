"""What is on the wire: subjects, streams, tasks, records, control messages, limits. No I/O."""
