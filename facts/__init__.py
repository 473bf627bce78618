"""Facts: what a host has."""
