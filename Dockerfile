# syntax=docker/dockerfile:1
# API and worker are the same image: `postroom serve` (the default) and `postroom worker`.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/image.txt requirements/image.txt
RUN python -m venv /opt/postroom && /opt/postroom/bin/pip install --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY mailer mailer
COPY service service
COPY worker worker
COPY cli cli
RUN /opt/postroom/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/postroom /opt/postroom
COPY templates /app/templates
WORKDIR /app
# Numeric, so that an orchestrator can see that it is not root. Nothing is written: the root may be read-only.
USER 10001:10001
ENV PATH=/opt/postroom/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    POSTROOM_HOST=0.0.0.0 \
    POSTROOM_TEMPLATES_DIR=/app/templates
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["postroom", "serve"]
