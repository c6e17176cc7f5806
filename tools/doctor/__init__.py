"""`redwire doctor`: facts are gathered once, then judged without asking anybody again."""
