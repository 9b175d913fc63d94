# The image of a party, and of the harness in docker-compose.yml. Build it: permbench docker build
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS packages
WORKDIR /deps
# Wheels collected by the host (permbench docker build --wheels) make this build need no network; the
# pattern lets the folder be absent. Without it pip asks its index, here for builds without CUDA.
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml harness/runners/docker_image/package_list.py wheel[s] ./
RUN python3 -m venv /opt/permbench \
 && python3 package_list.py pyproject.toml > requirements.txt \
 && if ls *.whl > /dev/null 2>&1; then set -- --no-index --find-links .; fi \
 && /opt/permbench/bin/pip install --no-cache-dir --disable-pip-version-check "$@" -r requirements.txt \
 && rm -rf /opt/permbench/lib/python3*/site-packages/torch/include

FROM ${BASE_IMAGE}
RUN (command -v tc && command -v ethtool) > /dev/null \
 || (apt-get update && apt-get install -y --no-install-recommends iproute2 ethtool \
     && rm -rf /var/lib/apt/lists/*)
COPY --from=packages /opt/permbench /opt/permbench
ENV PATH=/opt/permbench/bin:$PATH \
    PYTHONPATH=/permbench \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp \
    NUMBA_CACHE_DIR=/tmp/kernels
WORKDIR /permbench
COPY pyproject.toml ./
COPY conf conf
COPY protocols protocols
COPY netem netem
COPY baselines baselines
COPY harness harness
# A first run of every system compiles its kernels, so that containers on such a CPU need not.
# Whoever a container runs as may read it, whatever the checkout's umask.
RUN python -m compileall -q . && chmod -R a+rX . \
 && NUMBA_CACHE_DIR=/permbench/kernels python -m harness run -m runner=local shaper=none repeat=1 \
      warmup=0 results_dir=/tmp/first experiment=argmax,layer system=permllm,puma,mpcformer \
 && rm -rf /tmp/first && chmod -R a+rX kernels
ENTRYPOINT ["/bin/sh", "harness/runners/docker_image/start.sh", "harness.parties.worker"]
