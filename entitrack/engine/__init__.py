"""What is done inside a model, as nnsight traces: the only code that is shipped to a server.

Read it in this order: `anatomy` (how a decoder is built), `sites` (what is read and replaced), `runs` (whole prompts),
`layout` (where variants of prompts stand, and what they see), `rerun` (the engine), and then any question: `patching`,
`knockout`, `ablation`, `component_ablation`, `circuits`, `positions`, `masks`, `moving`, `dcm`, `path_patching` with
`passes` and `receivers`.

Functions take a model (an nnsight envoy), its anatomy and tensors, and return a dictionary of tensors. They import
torch and, of the rest of the project, names of components alone, hold everything in plain containers, and reach modules
by the paths of the anatomy alone. The annotations of a function within a function are evaluated on the server, where
jaxtyping is not: they name tensors and records. Records are `TypedDict`s, none of which inherits from another: such a
class cannot be shipped.
"""
