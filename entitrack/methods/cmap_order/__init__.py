"""In which order do the units of a circuit bring the base to the donor, and what does each add?

1. On the prompts that things are chosen on, every unit that is left is tried on top of those that were taken; the one
   that brings the recipient closest to the donor is taken next, until there are no more.
2. On the run's own prompts the chain is judged: what each step adds to those before it.
3. Beside it stand what each unit does alone, and what is lost where it alone is left out of the whole.
4. As many random heads are added step by step: what the number of heads does by itself.
"""
