# Serves a bundle over HTTP on CPUs, as an unprivileged user:
#   docker build -t skinray .
#   docker run --rm --shm-size=2g --stop-timeout 140 -p 127.0.0.1:8000:8000 \
#     -v "$PWD/bundle:/bundle:ro" skinray
# It is stopped by SIGTERM, and then finishes the requests in progress (at most 125 s).
FROM python:3.11.7-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY skinray ./skinray
COPY serve_configs ./serve_configs
RUN python -m venv /opt/skinray \
    && /opt/skinray/bin/pip install --no-cache-dir --constraint constraints.txt '.[openvino]'

FROM python:3.11.7-slim-bookworm
# Libraries that OpenCV links to. The distribution chooses their patch versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin skinray
COPY --from=build /opt/skinray /opt/skinray
ENV PATH=/opt/skinray/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=skinray.service.middleware.front:middlewares
USER 10001
WORKDIR /home/skinray
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=30s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/live', timeout=25)"]
ENTRYPOINT ["skinray", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--bundle", "/bundle"]
