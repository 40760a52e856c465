"""`make chaos`: processes are killed, lines cut and servers restarted under load, and every mail is accounted for."""
