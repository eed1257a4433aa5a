"""What the palace does: the facade every door uses, ranking, chunking, and the readers of files and transcripts."""
