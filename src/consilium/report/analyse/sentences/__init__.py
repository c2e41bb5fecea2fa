"""The sentences that answer a study: on its choices, on leakage, infections, audits and what is missing."""
