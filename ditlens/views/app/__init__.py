"""The editor as a page of its own: one process has the model, and each person's page a small one of its own."""
