"""Where the dashboard's items come from, and what it does on the bus. No terminal is known here."""
