"""HTTP in: the API, and the pages beside it."""
