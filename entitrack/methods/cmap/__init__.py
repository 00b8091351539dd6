"""Cross-model activation patching: which group, from the donor, makes the base as good? (paper, section 6)."""
