# The images of the five processes, one target each:  docker build --target posts -t frontispiece-posts .
#
# Each holds its own folder, the contracts that it uses, `rpc`, and the locked requirements of its own extra; nothing
# else. `posts` and `worker` share their layers: they are one package with one database.
# BASE_IMAGE may be any Debian-like image with Python 3.11 or later and venv (deploy/compose/base-image.sh makes one
# without an image registry). BuildKit is not needed: nothing here is more than FROM, COPY and RUN.
ARG BASE_IMAGE=python:3.12-slim-bookworm
# For the target `load` alone: any image with Go 1.23 or later.
ARG GO_IMAGE=golang:1.24-bookworm

FROM ${BASE_IMAGE} AS base
# The malloc and gRPC settings: docs/decisions/0007. HOME: the root file system is read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=67108864 \
    MALLOC_ARENA_MAX=2 \
    GRPC_VERBOSITY=ERROR \
    FRONTISPIECE_LOG_FORMAT=json
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin frontispiece \
 && install -d -o frontispiece -g frontispiece /var/lib/frontispiece \
 && python3 -m venv --without-pip /venv
COPY requirements/bootstrap.txt deploy/compose/install.sh /requirements/
WORKDIR /app
STOPSIGNAL SIGTERM

# The version of the project, as importlib.metadata finds it; in a stage of its own so that it spoils no layer cache.
FROM base AS metadata
COPY pyproject.toml /
RUN version=$(sed -n 's/^version = "\(.*\)"$/\1/p' /pyproject.toml) \
 && mkdir "frontispiece-$version.dist-info" \
 && printf 'Metadata-Version: 2.1\nName: frontispiece\nVersion: %s\n' "$version" >"frontispiece-$version.dist-info/METADATA"

FROM base AS storage
COPY requirements/storage.txt /requirements/
RUN sh /requirements/install.sh /requirements/storage.txt
COPY protos/frontispiece/__init__.py frontispiece/
COPY protos/frontispiece/types frontispiece/types
COPY protos/frontispiece/storage frontispiece/storage
COPY rpc rpc
COPY services/__init__.py services/
COPY services/storage services/storage
COPY --from=metadata /app ./
RUN python -m compileall -q .
ENV STORAGE_LISTEN=0.0.0.0:50052 STORAGE_LOCAL_ROOT=/var/lib/frontispiece/media
USER frontispiece
EXPOSE 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-m", "rpc.health", "127.0.0.1:50052", "frontispiece.storage.v1.ImageService"]
CMD ["python", "-m", "services.storage"]

FROM base AS base-posts
COPY requirements/posts.txt /requirements/
RUN sh /requirements/install.sh /requirements/posts.txt
COPY protos/frontispiece frontispiece
COPY rpc rpc
COPY services/__init__.py services/
COPY services/posts services/posts
COPY --from=metadata /app ./
RUN python -m compileall -q .
USER frontispiece

FROM base-posts AS posts
ENV POSTS_LISTEN=0.0.0.0:50053
EXPOSE 50053
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-m", "rpc.health", "127.0.0.1:50053", "frontispiece.posts.v1.TaskService"]
CMD ["python", "-m", "services.posts"]

FROM base-posts AS worker
ENV WORKER_LISTEN=0.0.0.0:50054
EXPOSE 50054
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "rpc.health", "127.0.0.1:50054"]
CMD ["python", "-m", "services.posts.worker"]

FROM base AS gateway
COPY requirements/gateway.txt /requirements/
RUN sh /requirements/install.sh /requirements/gateway.txt
COPY protos/frontispiece frontispiece
COPY rpc rpc
COPY gateway gateway
COPY --from=metadata /app ./
RUN python -m compileall -q .
ENV GATEWAY_HOST=0.0.0.0 GATEWAY_PORT=8080 GATEWAY_TOKEN_FILE=/var/lib/frontispiece/token
USER frontispiece
EXPOSE 8080
# /healthz, not /readyz: pages are served while another service is down, so the gateway must not be restarted then.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-m", "gateway.health", "http://127.0.0.1:8080/healthz"]
CMD ["python", "-m", "gateway"]

# Last: it is by far the largest (PyTorch with CUDA), and builders without BuildKit build every stage before the target.
FROM base AS generator
COPY requirements/generator.txt /requirements/
RUN sh /requirements/install.sh /requirements/generator.txt
RUN install -d -o frontispiece -g frontispiece /var/lib/frontispiece/models
COPY protos/frontispiece/__init__.py frontispiece/
COPY protos/frontispiece/types frontispiece/types
COPY protos/frontispiece/generator frontispiece/generator
COPY rpc rpc
COPY services/__init__.py services/
COPY services/generator services/generator
COPY models/house/weights models/house/weights
COPY --from=metadata /app ./
RUN python -m compileall -q .
ENV GENERATOR_LISTEN=0.0.0.0:50051 GENERATOR_MODELS_DIR=/var/lib/frontispiece/models
USER frontispiece
EXPOSE 50051
# Loading a large model takes minutes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s \
  CMD ["python", "-m", "rpc.health", "127.0.0.1:50051", "frontispiece.generator.v1.GeneratorService"]
CMD ["python", "-m", "services.generator"]

# ghz and our load tests, for the profile `load` of docker-compose.yml.
FROM ${GO_IMAGE} AS ghz
WORKDIR /uploads
COPY bench/ghz/uploads ./
RUN mkdir /programs \
 && GOBIN=/programs go install github.com/bojand/ghz/cmd/ghz@v0.121.0 \
 && go build -o /programs/ghz-uploads .

FROM base AS load
COPY requirements/dev.txt requirements/posts.txt /requirements/
RUN sed -n '/^buf-bin==/,/[^\\]$/p' /requirements/dev.txt >/tmp/buf.txt \
 && sh /requirements/install.sh /requirements/posts.txt /tmp/buf.txt
COPY --from=ghz /programs /usr/local/bin
COPY protos protos
COPY protos/frontispiece frontispiece
COPY rpc rpc
COPY local local
COPY bench bench
USER frontispiece
CMD ["python", "-m", "bench.load", "smoke"]
