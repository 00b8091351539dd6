"""What a person reads: tables on the terminal, records and figures in the run's folder."""
