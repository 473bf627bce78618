"""What you run: the paths, and what looks after a cluster."""
