"""How a run works on top of pyinfra."""
