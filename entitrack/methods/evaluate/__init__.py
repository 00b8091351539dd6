"""How well does each model track entities? (paper, section 3).

Every model is asked every prompt; an answer is right if its first token is the most likely next one. Accuracy is
broken down by what the task says of its prompts, such as the number of boxes and which of them is asked for.
"""
