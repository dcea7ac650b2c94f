# The one image of the stack: workers, and Prefect's servers with the same pinned versions. No secret is in it.
#   docker build --file deployments/worker.Dockerfile --tag ims:local .
FROM debian:12.11-slim

ENV DEBIAN_FRONTEND=noninteractive \
    LANG=C.UTF-8 \
    PATH=/opt/ims/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/ims

# The code before the installation, which is in place: an empty folder would be taken for another kind of package.
COPY pyproject.toml constraints.txt README.md prefect.yaml ./
COPY models models
COPY tasks tasks
COPY flows flows
COPY deployments deployments
RUN deployments/setup.sh --service \
    && rm -rf /var/lib/apt/lists/* /root/.cache

HEALTHCHECK --interval=30s --timeout=10s --start-period=180s CMD ["ims", "status", "--json"]
CMD ["/opt/ims/deployments/stack/run-host.sh"]
