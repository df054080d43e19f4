"""Dependencies turned into read-only layers: `uv.py` resolves and installs them in a sandbox."""
