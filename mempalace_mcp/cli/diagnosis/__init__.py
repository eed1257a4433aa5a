"""What can be wrong with a palace, seen from outside; each module looks at one part of it."""
