"""From which layer on does the stream at the last token already say the answer?

The stream in front of each layer goes through the final norm and the unembedding, as if no layer came after it.
"""
