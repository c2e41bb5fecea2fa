"""The site's side: its data, policy, ledger, secrets and answers."""
