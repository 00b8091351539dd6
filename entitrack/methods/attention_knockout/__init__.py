"""Does information flow from one position to another, and from which layer on is it no longer needed? (section 4.1).

For each pair of roles, and each layer k: in layers k and after, no head attends from the first role to the second. As a
control, each source also loses a position drawn at random.
"""
