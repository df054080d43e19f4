"""Instances on this host: the warden's client, zygotes, blanks and templates."""
