"""`redwire demo`: three regions on this machine, what they do, and what they refuse to do."""
