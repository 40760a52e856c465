"""The `postroom` command, and dev mode: every process of Postroom from one terminal."""
