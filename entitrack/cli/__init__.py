"""The command line: configuration, and what is said of a wrong one."""
