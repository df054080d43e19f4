"""What drivers on SQL share: the open database with its one writer, migrations, kinds of columns. No port's own."""
