"""Prompts, their counterfactuals, and the position roles in them."""
