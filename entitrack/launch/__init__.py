"""Where the jobs of a sweep run: one after another in this process, or each in a process of its own.

A launcher is a settings class and a function that yields, as they end, the jobs' numbers and why they failed. Jobs of
all launchers share one store, where every unit is computed once, whoever asks for it first.
"""
