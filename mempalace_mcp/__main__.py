"""`python -m mempalace_mcp` is `mempalace-mcp`."""

from mempalace_mcp.cli.main import main

if __name__ == "__main__":
    main()
