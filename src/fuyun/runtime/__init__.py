"""What runs inside the sandbox, and the warden that builds it. Standard library only; Python 3.9 and newer."""
