"""Threads, statistics and the composition of one running process."""
