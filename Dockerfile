# The base is an argument, so that whoever builds names it by its digest:
#
#     docker build --build-arg PYTHON=python:3.13-slim@sha256:... .
ARG PYTHON=python:3.13-slim

# Everything is installed apart, so that the image carries neither pip nor a build backend of ours.
FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements-build.txt requirements-runtime.txt ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt
RUN python -m venv --without-pip /opt/agentflow \
    && /opt/build/bin/pip --python /opt/agentflow/bin/python install --no-cache-dir --compile \
        --require-hashes -r requirements-runtime.txt
COPY pyproject.toml LICENSE README.md ./
COPY agentflow agentflow
COPY tui tui
# The server has an image of its own.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-cache-dir --no-index --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/agentflow/bin/python install --no-cache-dir --compile \
        --no-deps --no-index /wheels/*.whl \
    && rm /opt/agentflow/bin/nats-server
# What only the dashboard draws with: a master or worker does without (--build-arg DASHBOARD=no).
ARG DASHBOARD=yes
RUN [ "$DASHBOARD" = yes ] || { /opt/build/bin/pip --python /opt/agentflow/bin/python uninstall --yes \
        linkify-it-py markdown-it-py mdit-py-plugins mdurl platformdirs pygments textual \
    && rm -r /opt/agentflow/lib/python3*/site-packages/agentflow_tui; }

FROM ${PYTHON}
# The image comes without the .pyc files of Python's own library, and the user below may not write
# them: every start would compile it anew.
RUN python -m compileall -q -x '/(test|idlelib|ensurepip|lib2to3|turtledemo|site-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && useradd --create-home --uid 10001 agentflow
COPY --from=build /opt/agentflow /opt/agentflow
USER agentflow
WORKDIR /home/agentflow
# Output that waits in a buffer is lost with a killed container; a log goes where those of containers
# are looked for.
ENV PATH=/opt/agentflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AGENTFLOW_LOG_FORMAT=json \
    AGENTFLOW_LOG_FILE=-
# Whether the server is there. A master or worker says so itself: `agentflow health worker`.
HEALTHCHECK --interval=60s --timeout=15s --start-period=30s CMD ["agentflow", "health"]
# The program is process 1 and hears SIGTERM itself, so running tasks are handed back.
ENTRYPOINT ["agentflow"]
CMD ["--help"]
