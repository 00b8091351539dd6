"""Files that are written whole, and read without trust."""
