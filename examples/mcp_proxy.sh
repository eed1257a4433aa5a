#!/usr/bin/env bash
# mcp-proxy in both directions, checked by real clients. It needs an older MCP SDK, hence an environment of its own.
# Usage: mcp_proxy.sh [PYTHON WITH mempalace_mcp INSTALLED]
set -euo pipefail
python=${1:-python3}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
started=()
cleanup() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
await_port() {
    "$python" - "$1" <<'PY'
import socket, sys, time
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1).close()
        sys.exit(0)
    except OSError:
        time.sleep(0.1)
sys.exit("nothing listens on port " + sys.argv[1])
PY
}

proxy=${MCP_PROXY:-}
if [ -z "$proxy" ]; then
    package="mcp-proxy>=0.13,<0.14"
    if [ -n "$(command -v uv)" ]; then
        uv venv --quiet --python "$python" "$work/proxy"
        uv pip install --quiet --python "$work/proxy" "$package"
    else
        python3 -m venv "$work/proxy"
        "$work/proxy/bin/pip" install --quiet --disable-pip-version-check "$package"
    fi
    proxy=$work/proxy/bin/mcp-proxy
fi

echo "1. a stdio client -> mcp-proxy -> our server over SSE, then over Streamable HTTP"
port=$(free_port)
"$python" -m mempalace_mcp serve --palace "$work/palace" --port "$port" &
started+=($!)
await_port "$port"
"$python" "$here/proxied.py" "$proxy" "http://127.0.0.1:$port/sse" 2>>"$work/proxy.log"
"$python" "$here/proxied.py" "$proxy" --transport streamablehttp "http://127.0.0.1:$port/mcp" 2>>"$work/proxy.log"

echo "2. an SSE client -> mcp-proxy -> our stdio server"
outer=$(free_port)
"$proxy" --port "$outer" -- "$python" -m mempalace_mcp --palace "$work/palace" 2>"$work/proxy.log" &
started+=($!)
await_port "$outer"
"$python" "$here/client_sse.py" "http://127.0.0.1:$outer/sse"
echo "both directions work"
