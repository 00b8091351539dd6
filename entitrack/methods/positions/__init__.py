"""At which positions is the work done? The roles of a circuit, found rather than assumed.

Every head works at the live positions and is ablated at all others.

1. The place of the last token is live first: without it nothing reaches the answer.
2. The place of the template that helps most is added. Places may help only together: where none helps by itself, the
   best two are added.
3. So on until the model does about what it does with all places live.
"""
