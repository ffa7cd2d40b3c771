# medfuse as a BIDS App (CPU). Build:  docker build -t medfuse .
# Run:  docker run --rm -u "$(id -u):$(id -g)" -v /data:/data:ro -v /out:/out medfuse /data /out participant
FROM python:3.12.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /opt/medfuse
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY medfuse ./medfuse
COPY napari_plugin ./napari_plugin
COPY sample_data ./sample_data
# The CPU build of torch: the default one brings gigabytes of GPU libraries.
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[codecs,dicom,cluster]' \
    && useradd --create-home --uid 1000 medfuse

USER 1000
WORKDIR /tmp
ENTRYPOINT ["medfuse-bids"]
CMD ["--help"]
