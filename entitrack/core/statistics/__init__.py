"""How sure a number is. The unit of inference is the context: prompts of one context are not independent.

1. `contexts`: values by prompt become sums by context; all that follows sees nothing else.
2. `shares` and `means`: intervals of truths (how often is it right?) and of any other values.
3. `estimates`: a number with its interval, for one series of values, the difference of two, or their ratio.
4. `discoveries`: tests of many things at once, with false discoveries controlled.
5. `overlaps`: how far sets of things agree, beside random sets of their sizes.
6. `controls`: a number beside those of random controls.
"""
