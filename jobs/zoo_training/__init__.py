"""How the embedded family is made: corpora, curriculum, tuning, evaluation and the card."""
