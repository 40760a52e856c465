"""Every data command to the queue server; one file for each kind of record."""
