"""Kubernetes' own conformance suite, run on the lab's cluster."""
