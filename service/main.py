"""`uvicorn service.main:app`: the API with settings from the environment."""

import os

import structlog

from mailer.observability.logging import configure
from mailer.settings import MailerSettings, unknown_variables
from service.app import create_app
from service.settings import ServiceSettings

_mailer_settings = MailerSettings.load(os.environ)
configure(_mailer_settings.log_level, _mailer_settings.log_format, "api")
for _warning in unknown_variables(os.environ):
    structlog.get_logger().warning("settings.unknown_variable", detail=_warning)

app = create_app(_mailer_settings, ServiceSettings.load(os.environ))
