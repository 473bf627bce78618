"""Kubernetes from its parts, on your own hosts, with pyinfra."""
