"""What function authors import. Standard library only; Python 3.9 and newer."""
