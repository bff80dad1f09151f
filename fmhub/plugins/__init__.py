"""Plugins as guests: what one is and how it is loaded, the directory that names them, and how they come into an environment."""
