"""Readers of files and transcripts."""
