"""How good can a circuit of every size be, and how like the model? Faithfulness as a curve over circuit size.

1. A unit is a head at a role. All units are put in an order, on contexts that are not those of the curve.
2. The circuit of size k has the first k units; every other head is ablated, at the roles and everywhere else.
3. f = (F(C) - F(none)) / (F(M) - F(none)) is 0 for no unit and 1 for what is as good as the model.
4. Two areas over the share of units say how good the order is: CPR under f, CMD under |1 - f| (the circuit performance
   ratio and the circuit-model distance of the Mechanistic Interpretability Benchmark, Mueller et al. 2025).
"""
