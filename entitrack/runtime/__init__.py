"""Where and how units of work run, and how they are kept."""
