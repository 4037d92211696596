# The wheel is built apart, so that the image carries neither a build backend nor the tests' tools.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml LICENSE README.md ./
COPY agentflow agentflow
COPY tui tui
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.13-slim
# The slim image has no root certificates, and api.anthropic.com speaks only TLS.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-runtime.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements-runtime.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && useradd --create-home --uid 10001 agentflow
USER agentflow
WORKDIR /home/agentflow
# Output that waits in a buffer is lost with a killed container.
ENV PYTHONUNBUFFERED=1
# The program is process 1 and hears SIGTERM itself, so running tasks are handed back.
ENTRYPOINT ["agentflow"]
CMD ["--help"]
