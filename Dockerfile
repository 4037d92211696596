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
# The image comes without the .pyc files of Python's own library, and the user below may not write
# them: every start would compile it anew.
RUN python -m compileall -q -x '/(test|idlelib|ensurepip|lib2to3|turtledemo|site-packages)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY requirements-runtime.txt ./
RUN pip install --no-cache-dir --compile --require-hashes -r requirements-runtime.txt \
    && rm requirements-runtime.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --compile --no-deps --no-index /wheels/*.whl \
    && useradd --create-home --uid 10001 agentflow
USER agentflow
WORKDIR /home/agentflow
# Output that waits in a buffer is lost with a killed container.
ENV PYTHONUNBUFFERED=1
# Whether the server is there. A master or worker says so itself: `agentflow health worker`.
HEALTHCHECK --interval=60s --timeout=15s --start-period=30s CMD ["agentflow", "health"]
# The program is process 1 and hears SIGTERM itself, so running tasks are handed back.
ENTRYPOINT ["agentflow"]
CMD ["--help"]
