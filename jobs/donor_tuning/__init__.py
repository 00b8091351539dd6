"""Tuning donors for any family: LoRA adapters on one kind of text, measured on boxes that none of them has seen."""
