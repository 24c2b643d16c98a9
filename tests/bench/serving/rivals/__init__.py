"""Other ways to serve the bench's model over HTTP, each as its users would write it. Started as programs."""
