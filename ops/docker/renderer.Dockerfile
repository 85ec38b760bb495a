# halftone/renderer: a Ray node with GPUs. `ray start` runs here, and Ray starts one renderer for each GPU. No farm
# service runs in it, and it is given no password. Built from the repository's root; docs/deploying.md has the command.
#
# The base is plain: PyTorch's wheels bring CUDA, the driver's libraries come from the host through NVIDIA's container
# toolkit. Base, Python and Ray are those of control.Dockerfile, because a driver and its actors must have the same.

FROM python:3.11.16-slim-trixie@sha256:da047cb8f9d1d98e5c070f5300ba9f7274e33b8fc0e5be5ed88740aed1b95ba9 AS base


FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY ops/docker/build.lock ops/docker/renderer.lock ops/docker/cuda.lock ./

# Wheels only, exactly those of the locks, into an environment that has no pip itself. PyPI's torch is the CUDA build.
RUN python -m venv --without-pip /opt/halftone \
    && python -m pip --python /opt/halftone install \
        --no-cache-dir --no-compile --no-deps --only-binary=:all: --requirement renderer.lock --requirement cuda.lock \
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
# Bytecode is made once, and without the times of files: two builds of one commit have the same. The last line: crops
# look for faces with a file of scikit-image's, which must lie in its wheel, for nothing is downloaded in production.
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /build/dist \
    && python -m pip --python /opt/halftone install --no-cache-dir --no-compile --no-deps --no-index /build/dist/*.whl \
    && /opt/halftone/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/halftone/lib \
    && /opt/halftone/bin/python -c "from skimage.data import lbp_frontal_face_cascade_filename as f; open(f()).close()"


FROM base
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="halftone/renderer" \
      org.opencontainers.image.description="Halftone's renderers: a Ray node for NVIDIA GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.16-slim-trixie"

# A C compiler, because Triton builds its launchers with one when FARM_ENGINE_COMPILE is on.
# DL3008: Debian removes a package's former version with each point release, so pinned ones stop building; what gcc it
# is does not change pixels.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log

# An entry in /etc/passwd because libraries ask who they are; the number because Kubernetes cannot tell from a name
# that it is not root. The cache is where a volume goes; a new volume takes over its owner.
RUN groupadd --gid 10001 halftone \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin halftone \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/cache/halftone

COPY --from=build /opt/halftone /opt/halftone

# Nothing is written outside /tmp and /var/cache/halftone, so the root file system may be read-only. A container gets
# the GPUs that it asked for (--gpus, a pod's limits), which replaces "void"; one that asked for none sees none.
# `utility` is NVML, which renderers ask how their GPU is doing.
ENV PATH=/opt/halftone/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    HF_HUB_OFFLINE=1 \
    TRITON_CACHE_DIR=/var/cache/halftone/triton \
    CUDA_CACHE_PATH=/var/cache/halftone/cuda \
    NVIDIA_VISIBLE_DEVICES=void \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp
USER 10001:10001

# The cluster answers, as this node sees it; RAY_ADDRESS says where it is.
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s --retries=3 CMD ["ray", "health-check"]
CMD ["ray", "start", "--help"]
