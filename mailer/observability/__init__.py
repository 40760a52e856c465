"""What a running process says of itself."""
