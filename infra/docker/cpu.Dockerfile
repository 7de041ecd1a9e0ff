# Onceseen on CPUs: the command line, and an SDK container for Beam workers (Spark, Flink, Dataflow).
# Build from the repository's root: docker build -f infra/docker/cpu.Dockerfile -t onceseen:cpu .
# The Beam version must be the one in constraints.txt.
ARG BEAM_VERSION=2.77.0
FROM apache/beam_python3.11_sdk:${BEAM_VERSION} AS beam

FROM python:3.11-slim-bookworm
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1
WORKDIR /opt/onceseen
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
RUN PIP_CONSTRAINT=constraints.txt pip install '.[cpu]'
COPY configs ./configs
# The harness that a Beam worker starts with; on its own the image runs the command line.
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENTRYPOINT ["onceseen"]
CMD ["--help"]
