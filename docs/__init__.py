"""Pages for readers, and the script that generates one of them."""
