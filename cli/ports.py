"""A busy port is an error that names it and its setting, before anything starts."""

import socket

from mailer.errors import SettingsError


def require_free(host: str, port: int, variable: str) -> None:
    """Raises SettingsError that names the port and its setting."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(f"Port {port} on {host} cannot be used ({error.strerror}): set {variable}") from error
