"""By what does a model find the answer: where it stands in the list, what it is called, or what it is?

1. A counterfactual asks for another place of the list, by the letter of a third, about other contents. So position,
   letter and content each have an answer of their own in the clean prompt, and what is not moved has the clean one.
2. What the counterfactual has is put into the clean run: the stream at a role, layer by layer; and, if a circuit is
   named, z of each group's heads at its own role.
3. What is then answered is counted: the mixture of the three, in every member of the family, by position in the list.
"""
