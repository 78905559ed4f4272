"""Draws what happened to sessions, from the lines that were recorded of it: text in, SVG out."""
