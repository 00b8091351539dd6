"""Are two circuits one? Of a base and its donor, of two seeds, one's own and the published.

1. Two circuits are read; models are described by their configuration, and no weights are loaded.
2. Group by group, role by role and as a whole, their heads are counted: in both, in the one, in the other.
3. Each overlap stands beside that of random sets of the same sizes (hypergeometric).
4. Heads that both have in a group are compared by rank; heads that moved to another group are named.
"""
