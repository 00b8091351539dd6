"""Is the circuit of one task that of another? Each is judged on each, as a matrix.

1. Circuits that were found on several tasks, or what masks leave of them, are run on every task's prompts, in every
   member of the family: faithfulness, beside random circuits of the same shape.
2. Every other member's z of each circuit's heads is put into the base on every task's prompts: CMAP, beside random
   heads at the same roles.
3. A circuit says nothing about a task whose roles are not the ones it has, and is refused there.
"""
