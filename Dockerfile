FROM python:3.12-slim AS build
RUN pip install --no-cache-dir uv
ENV UV_PROJECT_ENVIRONMENT=/opt/mempalace UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY mempalace_mcp mempalace_mcp
COPY examples/texts examples/texts
# What other packages ask for and nothing here imports: Chroma's way to clusters, downloads of tokenizers, command lines.
RUN uv sync --no-dev --no-editable --extra postgres \
    --no-install-package kubernetes \
    --no-install-package aiohttp \
    --no-install-package aiohttp-retry \
    --no-install-package aiosignal \
    --no-install-package bcrypt \
    --no-install-package build \
    --no-install-package durationpy \
    --no-install-package frozenlist \
    --no-install-package hf-xet \
    --no-install-package huggingface-hub \
    --no-install-package mmh3 \
    --no-install-package multidict \
    --no-install-package oauthlib \
    --no-install-package propcache \
    --no-install-package pypika \
    --no-install-package requests-oauthlib \
    --no-install-package typer \
    --no-install-package websocket-client \
    --no-install-package yarl
# The image is no good if it cannot file, embed, search, and keep vectors in Chroma.
COPY scripts/try_installation.py /try_installation.py
RUN /opt/mempalace/bin/python /try_installation.py

FROM python:3.12-slim
COPY --from=build /opt/mempalace /opt/mempalace
# Whoever the process runs as can use the volume; it makes what it writes its own.
# It is the default palace, not PALACE_PATH: PALACE_URL alone must be enough to name another.
RUN mkdir --mode=1777 /palace \
    && mkdir --mode=1777 --parents /home/palace/.mempalace-mcp \
    && ln -s /palace /home/palace/.mempalace-mcp/palace
ENV PATH=/opt/mempalace/bin:$PATH HOME=/home/palace PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PALACE_HOST=0.0.0.0 PALACE_PORT=8765
USER 10001:10001
VOLUME /palace
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "\
import os, urllib.request as r; ask = r.build_opener(r.ProxyHandler({})).open; \
ask(f'http://127.0.0.1:{os.environ[\"PALACE_PORT\"]}/health', timeout=4)"]
ENTRYPOINT ["mempalace-mcp"]
CMD ["serve"]
