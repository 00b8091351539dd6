"""Does the circuit alone do what the model does, in every member of the family? (paper, sections 4.2 and 5).

1. Every head outside the circuit is ablated, and every head at positions without a role.
2. F of what is left, F(C), is held against the model's own, F(M); and against the most that heads at the circuit's
   roles could do, the empty circuit, and random circuits with as many heads at each role.
"""
