"""`python -m cli` is `postroom`."""

from cli.main import main

main()
