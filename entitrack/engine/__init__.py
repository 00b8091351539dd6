"""What is done inside a model, as nnsight traces.

The functions here are the only code that is shipped to a server: they take a model (an nnsight envoy), its
anatomy and tensors, and return a dictionary of tensors. They import torch and nothing else of the project, hold
everything in plain containers, and reach modules by the paths of the anatomy alone.
"""
