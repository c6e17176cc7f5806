"""`redwire monitor`: the status document on a terminal, and the keys to steer by."""
