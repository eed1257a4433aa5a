"""One daemon for each palace, and the bridges that MCP clients start."""
