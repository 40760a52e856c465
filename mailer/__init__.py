"""What a job is, where it is recorded, how it is rendered and composed: shared by the API and the worker."""

__version__ = "0.5.1"
