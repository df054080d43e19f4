"""What the standard library forgot: clock, ids, units, tasks, named fault points. Imports nothing of Fuyun."""
