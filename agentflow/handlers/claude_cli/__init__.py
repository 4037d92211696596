"""Kind `claude-cli`: Claude Code as a child process, in a folder of the task's own."""
