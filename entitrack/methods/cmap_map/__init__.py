"""Where is there anything to gain? CMAP of every component to first order, before it is moved exactly.

1. The donor's value of every head, MLP or stream is read at every role, in one forward pass.
2. In the base, one forward and one backward pass give the slope of the right answer's log probability along each.
3. Slope times what the donor has more is the gain to first order, of all of them at once.
4. The heads that promise most are moved one by one: how far the map can be trusted.
"""
