"""MCP: the tools and the doors through which they are called."""
