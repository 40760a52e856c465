"""SMTP out: the only place that knows aiosmtplib."""
