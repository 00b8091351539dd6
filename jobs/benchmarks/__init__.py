"""Benchmarks: a naive way, ours, and the floor that arithmetic sets, timed in one run."""
