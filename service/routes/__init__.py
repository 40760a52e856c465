"""One file for each resource; handlers unwrap, call and answer."""
