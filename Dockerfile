# One image a service, and the image that carries a bundle to pods:
#   docker build --build-arg SERVICE=gateway --tag geofix/gateway:0.1.0 .
#   docker build --build-arg SERVICE=classifier --build-arg VARIANT=gpu --tag geofix/classifier:0.1.0-gpu .
#   docker build --target bundle --build-arg BUNDLE=bundles/orbit --tag geofix/bundle:orbit .
# `make image` does all of it. Behind a proxy with its own CA, add: --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG SERVICE
ARG VARIANT=cpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/${SERVICE}-${VARIANT}.txt requirements/
# Two environments: what builds the wheel stays behind, what serves is copied on.
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python -m venv /opt/build; \
    python -m venv --without-pip /opt/geofix; \
    /opt/build/bin/python -m pip install --require-hashes --only-binary :all: --requirement requirements/build.txt; \
    /opt/build/bin/python -m pip --python /opt/geofix/bin/python install --require-hashes --only-binary :all: \
        --requirement "requirements/${SERVICE}-${VARIANT}.txt"
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY shared shared
COPY services services
COPY training/geofix_training/__init__.py training/geofix_training/
# The tests, headers and sources that libraries carry are never read by a service.
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .; \
    /opt/build/bin/python -m pip --python /opt/geofix/bin/python install --no-deps /wheels/*.whl; \
    site=$(/opt/geofix/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    for package in pandas pyarrow scipy sklearn; do \
        if [ -d "$site/$package" ]; then find "$site/$package" -depth -type d -name tests -exec rm -r {} +; fi; \
    done; \
    rm -rf "$site/pyarrow/include" "$site/pyarrow/src"; \
    find "$site" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete

# A bundle as an image: an init container, or a volume of type image, hands it to pods by its version.
FROM python:${PYTHON}-slim AS bundle
ARG BUNDLE=bundles/orbit
LABEL org.opencontainers.image.title="a geofix bundle" org.opencontainers.image.documentation="docs/kubernetes.md"
COPY ${BUNDLE}/ /bundle/
USER 65532:65532
CMD ["cp", "-r", "/bundle/.", "/target/"]

FROM python:${PYTHON}-slim AS service
ARG SERVICE
ARG VARIANT=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED
LABEL org.opencontainers.image.title="geofix ${SERVICE} (${VARIANT})" \
      org.opencontainers.image.description="Says where on Earth an image was taken: the ${SERVICE} service" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/docker.md"
# A service installs nothing: pip goes, wherever this base keeps it.
RUN python -c 'import pathlib, shutil, pip; shutil.rmtree(pathlib.Path(pip.__file__).parent)' \
    && useradd --uid 65532 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin geofix
COPY --from=build /opt/geofix /opt/geofix
ENV PATH=/opt/geofix/bin:${PATH} \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    SERVICE=${SERVICE} \
    GEOFIX_BUNDLE=/bundle
USER 65532:65532
WORKDIR /tmp
EXPOSE 50051 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-P", "-m", "geofix.probe"]
ENTRYPOINT ["/bin/sh", "-c", "exec python -P -m \"geofix_${SERVICE}\""]
