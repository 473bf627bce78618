"""The phases of the paths."""
