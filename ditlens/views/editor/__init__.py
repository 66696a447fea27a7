"""The editor: a session that does the work, headless, and a thin widget that shows it."""
