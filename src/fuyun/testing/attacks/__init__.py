"""What a hostile function may try to get out: each attempt a small function, with how it is refused and why.

Deployed as a function's own code and run inside instances of every isolation class (`tests/e2e/test_attacks.py`), so
everything here imports the standard library only. One file per subject; `attempt.py` holds what an attempt is,
`runner.py` the handler that tries them, `pressure.py` what exhausts instead of breaking out.
"""
