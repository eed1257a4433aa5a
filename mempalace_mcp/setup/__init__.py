"""Tells the clients on this machine about the server: their settings, their hooks, and the way back."""
