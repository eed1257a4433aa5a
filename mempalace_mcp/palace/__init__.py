"""The palace: the facade that every transport uses, ranking, chunking, and the readers of files and transcripts."""
