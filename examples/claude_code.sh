#!/usr/bin/env bash
# Three ways to give Claude Code the palace; one of them is enough.
claude mcp add mempalace -- mempalace-mcp
claude mcp add --transport http mempalace-http http://127.0.0.1:8765/mcp   # needs `mempalace-mcp serve`
claude mcp add --transport sse mempalace-sse http://127.0.0.1:8765/sse     # needs `mempalace-mcp serve`
