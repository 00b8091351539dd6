"""How far can path patching to first order be trusted? Attribution scores against exact ones (paper, section 4.1).

1. Exact path patching scores every stage and finds the groups that receive.
2. Every stage is scored again to first order, through the same receivers: the slope of log p along the change of z,
   attention frozen; two forward passes and one backward pass a batch, whatever the number of heads.
3. Both scores are compared by the rank correlation of all heads, and by the overlap of their lowest.
"""
