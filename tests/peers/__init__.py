"""Postroom against what others wrote: a mail parser of another language, and the mail servers people run."""
