"""Is anything missing from the circuit? Remove the same heads from it and from the model (paper, section 4.2).

If a circuit is complete, what is left of it without any of its heads does as well as what is left of the model:
F(C\\K) = F(M\\K) for every set K of its heads. K is each group, and random sets.
"""
