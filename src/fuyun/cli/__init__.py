"""The command line: one file per noun; data on stdout, words on stderr.

Commands talk to the platform through `fuyun.client`; `up` alone builds one. Module level imports stay light (typer and
what is here): everything else is imported by the command that needs it, so that the shell never waits for it.
"""
