"""One person's screen: keys and clicks become commands, the open view becomes lines."""
