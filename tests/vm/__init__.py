"""A host with a kernel of its own: a virtual machine that needs no hardware to run it."""
