"""What does each group carry? Desiderata-based component masking (paper, section 5; Davies et al. 2023).

1. Contexts are split: half train, a quarter validates, a quarter tests.
2. A mask over a group's heads says which of them take their z, at the group's role, from the counterfactual. It is
   trained so that the desideratum's target is answered with as many heads left alone as possible, one for each weight
   of their number and each draw of counterfactuals.
3. Of these, the mask of the best validation accuracy is chosen, of the larger set on a tie.
4. On the test prompts it stands between its brackets: nothing patched, and the whole group.
"""
