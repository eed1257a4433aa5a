FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir --prefix=/install .

FROM python:3.12-slim
COPY --from=build /install /usr/local
RUN useradd --create-home palace && mkdir /palace && chown palace:palace /palace
USER palace
ENV PALACE_PATH=/palace
VOLUME /palace
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/health', timeout=2)"]
# Until tokens exist the server listens on loopback alone: share the network of the client's container or of the host.
CMD ["mempalace-mcp", "serve"]
