"""Each promise of the project, tried on every path by breaking what it can."""
