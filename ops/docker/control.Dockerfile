# halftone/control: `farm api`, `farm scheduler`, `farm migrate`, the commands, the raylet beside the scheduler and Ray's
# head. It holds no torch. Built from the repository's root; docs/deploying.md has the command.
#
# PID 1 is the program itself, without tini: `farm api` and `farm scheduler` end on SIGTERM by their own handlers, and
# `ray start --block` hands it on to its processes. What Ray orphans is reaped by whoever is PID 1 in the namespace that
# scheduler and raylet share: the pause container of a pod, Docker's own init in compose.yaml. A tini in an ENTRYPOINT
# would not be that PID 1, and KubeRay replaces the entry point anyhow.

# The digest is of the index for all platforms; the lock is for linux/amd64.
FROM python:3.11.16-slim-trixie@sha256:da047cb8f9d1d98e5c070f5300ba9f7274e33b8fc0e5be5ed88740aed1b95ba9 AS base


FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY ops/docker/build.lock ops/docker/control.lock ./

# Wheels only, exactly those of the lock, into an environment that has no pip itself.
RUN python -m venv --without-pip /opt/halftone \
    && python -m pip --python /opt/halftone install \
        --no-cache-dir --no-compile --no-deps --only-binary=:all: --requirement control.lock \
    && python -m pip --python /opt/halftone check \
    && python -m venv --without-pip /opt/build \
    && python -m pip --python /opt/build install \
        --no-cache-dir --no-compile --no-deps --only-binary=:all: --requirement build.lock

COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas/
COPY actors actors/
COPY farm farm/
COPY migrations migrations/

# BuildKit passes this on when it is given; the wheel's time stamps are then those of the commit.
ARG SOURCE_DATE_EPOCH
# Bytecode is made once, and without the times of files: two builds of one commit have the same.
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /build/dist \
    && python -m pip --python /opt/halftone install --no-cache-dir --no-compile --no-deps --no-index /build/dist/*.whl \
    && /opt/halftone/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/halftone/lib


FROM base
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="halftone/control" \
      org.opencontainers.image.description="Halftone's control plane: API, scheduler, migrations, Ray's head" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.16-slim-trixie"

# An entry in /etc/passwd because libraries ask who they are; the number because Kubernetes cannot tell from a name
# that it is not root.
RUN groupadd --gid 10001 halftone \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin halftone

COPY --from=build /opt/halftone /opt/halftone

# Nothing is written outside /tmp, so the root file system may be read-only.
ENV PATH=/opt/halftone/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    FARM_API_HOST=0.0.0.0 \
    FARM_METRICS_HOST=0.0.0.0 \
    FARM_URL=http://127.0.0.1:8080
WORKDIR /tmp
USER 10001:10001
EXPOSE 8080 9090

# Of the API, which a plain `docker run` starts. Whoever starts another verb gives its own check, as compose.yaml does.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["farm", "ready"]
ENTRYPOINT ["farm"]
CMD ["api"]
