"""What the workers of peers that are written in Python run, each in an environment of its own."""
