"""Does every head of the circuit earn its place? (paper, section 4.2).

A head that others can stand in for seems to do nothing. So for each head v:

1. Removing each pair of heads of its group shows how important v is once each other head is gone.
2. K, the heads whose removal raises v's importance most, is removed.
3. v is scored by what its removal does then: F(C\\K) / F(C\\(K+v)) - 1.
4. Heads whose score is below a threshold are left out: the pruned circuit.
"""
