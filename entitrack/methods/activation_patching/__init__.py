"""Does the same group carry the same thing in every member of the family? (paper, section 5, figure 4).

1. Every desideratum gives each clean prompt a counterfactual and a target, drawn several times.
2. z of a group's heads, or a component of the layers that they are in, moves at the group's role from the
   counterfactual to the clean prompt, within one model.
3. What is counted is how often the model then answers the target; `nothing` is how often it does so by itself.
"""
