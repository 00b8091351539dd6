"""Which layers does the answer go through, and where? Ablate what one layer does at one role, and see what is lost.

The other methods ablate heads, a circuit at a time. This one ablates what has no heads: what the MLP or the attention
of a layer adds to the stream at a role, or the stream itself. As a control, the same at a position drawn at random.
"""
