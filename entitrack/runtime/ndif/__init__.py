"""Running on a server that speaks nnsight's protocol: jobs, retries, budgets, checks before the first job."""
