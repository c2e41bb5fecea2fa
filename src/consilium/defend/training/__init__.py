"""While a site learns."""
