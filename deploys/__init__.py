"""The composed paths."""
