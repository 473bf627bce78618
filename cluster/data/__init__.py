"""Tables that say what each release accepts."""
