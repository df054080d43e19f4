"""Content-addressed bytes: `folder.py` keeps them in a directory."""
