"""`ports.changes.ChangeLog`, one module for each kind of database."""
