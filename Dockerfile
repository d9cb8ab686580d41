# One image for all nodes of a cluster. Build: docker build -t handloom .
FROM python:3.11-slim-bookworm

ENV PYTHONSAFEPATH=1 PYTHONFAULTHANDLER=1 PYTHONUNBUFFERED=1 DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends ffmpeg libegl1 libgl1-mesa-dri libgles2 libegl-mesa0 libosmesa6 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/handloom
COPY pyproject.toml requirements.lock README.md ./
RUN pip install --no-cache-dir uv==0.13.9 \
 && uv venv /opt/venv \
 && VIRTUAL_ENV=/opt/venv uv pip install --no-cache --no-deps --require-hashes -r requirements.lock
COPY schemas schemas
COPY model model
COPY stages stages
COPY curation curation
COPY jobs jobs
COPY handloom handloom
RUN VIRTUAL_ENV=/opt/venv uv pip install --no-cache --no-deps .

RUN useradd --create-home handloom
USER handloom
ENV PATH=/opt/venv/bin:$PATH
ENTRYPOINT ["handloom"]
CMD ["--help"]
