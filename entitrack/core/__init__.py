"""Values that everything else is about: torch and numpy at most, no models, no files of a run's making."""
