"""entitrack: what did fine-tuning change inside a language model?"""
