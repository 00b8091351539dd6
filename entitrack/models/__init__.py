"""Models: the only place that knows module names, head counts, adapters, dtypes and devices."""
