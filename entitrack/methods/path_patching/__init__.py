"""Which heads track entities, and in which order? Path patching, stage by stage (paper, section 4.1).

1. The first stage scores every head at one role by what changing its z does to the right answer's probability, through
   the logits alone: all z from the role on stay clean but the head's own, which comes from the counterfactual prompt.
2. The lowest scores that are below zero by their noise and sampling error are the stage's group.
3. A later stage does the same through the q, k or v of the group that an earlier stage found, its receivers.
4. The groups are the circuit.
"""
