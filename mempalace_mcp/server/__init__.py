"""MCP: the tools and the transports over which they are called."""
