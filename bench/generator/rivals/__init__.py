"""Other ways to serve the same checkpoint. Each program here runs alone, in an environment that has nothing of ours."""
