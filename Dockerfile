# reflexarc as an image: the wheel in a virtual environment, run by a user without rights.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY connectors connectors
COPY rules rules
RUN python -m venv /opt/reflexarc && /opt/reflexarc/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/reflexarc --shell /usr/sbin/nologin reflexarc \
  && install -d -o reflexarc -g reflexarc /etc/reflexarc /var/lib/reflexarc /var/lib/envoy \
  # Envoy's own user (101 in its image) writes the access log that we follow
  && install -d -o 101 -g 101 -m 0755 /var/log/envoy
COPY --from=build /opt/reflexarc /opt/reflexarc
ENV PATH=/opt/reflexarc/bin:$PATH PYTHONUNBUFFERED=1
USER reflexarc
WORKDIR /var/lib/reflexarc
VOLUME ["/var/lib/reflexarc"]
EXPOSE 8480
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=12 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8480/readyz', timeout=2)"]
ENTRYPOINT ["reflexarc"]
CMD ["run", "--config", "/etc/reflexarc/reflexarc.yaml", "--log-format", "json"]
