# Onceseen on CPUs: the command line, and an SDK container for Beam workers (Spark, Flink, Dataflow). Two targets, since a
# runner starts a worker's image with Beam's own arguments. Build from the repository's root:
#   docker build -f infra/docker/cpu.Dockerfile -t onceseen:cpu .
#   docker build -f infra/docker/cpu.Dockerfile -t onceseen-worker:cpu --target worker .
# The Beam version must be the one in constraints.txt.
ARG BEAM_VERSION=2.77.0
FROM apache/beam_python3.11_sdk:${BEAM_VERSION} AS beam

FROM python:3.11-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1
WORKDIR /opt/onceseen
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
RUN PIP_CONSTRAINT=constraints.txt pip install '.[cpu]'
COPY configs ./configs

# `--sdk_container_image`: the harness that a Beam worker starts with.
FROM base AS worker
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM base AS cli
ENTRYPOINT ["onceseen"]
CMD ["--help"]
