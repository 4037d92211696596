"""The fenced log: every write names the record that it follows."""
