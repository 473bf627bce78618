"""What a cluster is: plain typed Python, no host and no pyinfra."""
