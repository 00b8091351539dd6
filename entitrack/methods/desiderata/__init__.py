"""What could a group of heads carry? One example pair of each desideratum (paper, section 5). No model is run."""
