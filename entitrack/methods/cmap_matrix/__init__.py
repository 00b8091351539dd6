"""Who can give whom what? CMAP of the circuit between all pairs of a family's members.

1. Every member is read once: z of the circuit's heads at their roles.
2. Into every recipient, every donor's are put: accuracy, gain, and the share of what the donor has over it.
3. Beside it stand random heads of the same shape, and all heads at the roles. A member into itself is the null control.
4. Pairs that may not exchange activations are named with what stands against it.
"""
