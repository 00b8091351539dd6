"""One file per question: (experiment, settings) -> a frozen result. No Hydra, no W&B, no printing."""
