"""What tests stand on: a real queue server, real SMTP and HTTP servers, real processes."""
