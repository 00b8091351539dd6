"""Naive oracles: plain `transformers` forwards with plain torch hooks, to test every fast path against.

Nothing here is clever and nothing here imports the project: each file restates one method by its definition,
with full forwards, one intervention at a time and no cache, for any decoder a `Layout` describes. When an
oracle and the project disagree, read the definition in the oracle first: it is meant to be short enough to be
checked by eye.
"""
