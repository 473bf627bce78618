"""What ends up on a host, laid out by destination."""
