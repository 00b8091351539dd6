"""One page about runs: a file that a browser opens, with all that is in it; no network, no script but its own."""
