"""Is the circuit found again? The search of path patching, over and over (section 4.1; no part of the paper).

1. The whole search runs on the prompts of every seed, in every phrasing, and on random halves of the contexts of the
   first seed; every search finds its own receivers.
2. A head's inclusion is the share of searches that choose it (stability selection of Meinshausen and Buehlmann, 2010).
3. How far searches agree stands beside random groups of the same sizes; heads of a circuit that no search finds again
   are named, and heads that every search finds though the circuit has them not.
4. Heads that enough searches over seeds choose are a circuit.
"""
