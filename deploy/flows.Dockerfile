# The flows, MLflow and Prefect from the one tested set of requirements.lock.
#   docker build -f deploy/flows.Dockerfile -t incumbent-flows:0.1.0 .
FROM python:3.11-slim
# Whoever has Prefect's password can run code as the worker (1035), and as nobody else: the servers are 1034.
RUN useradd --uid 1034 --create-home incumbent \
    && useradd --uid 1035 --create-home incumbent-worker \
    && mkdir -p /var/lib/incumbent/reports /var/lib/mlflow \
    && chown -R incumbent-worker:incumbent-worker /var/lib/incumbent \
    && chmod 750 /var/lib/incumbent \
    && chown -R incumbent:incumbent /var/lib/mlflow
WORKDIR /app
COPY requirements.lock ./
# The lock is complete, so pip resolves nothing.
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE prefect.yaml ./
COPY bentos ./bentos
COPY monitoring ./monitoring
COPY flows ./flows
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e .
# The users below cannot write here: without this each start would compile the rooms again.
RUN python -m compileall -q bentos monitoring flows
ENV DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false MLFLOW_DISABLE_TELEMETRY=true \
    INCUMBENT_HOME=/var/lib/incumbent PYTHONUNBUFFERED=1
USER incumbent
