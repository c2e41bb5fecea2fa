"""What noise costs: epsilon of composed mechanisms, and the noise that meets one."""
