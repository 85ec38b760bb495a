"""Messages, nothing else: what users send, what our parts send one another, what the API answers."""
