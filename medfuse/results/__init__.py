"""Files of results: folders that are whole or absent, volumes, ledgers."""
