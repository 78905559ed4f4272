"""Renders the stream of bridge events: one renderer a file."""
